-- Why what a gateway said last of itself could not be stored; empty: it was.
ALTER TABLE gatecast_gateways ADD COLUMN manifest_fault text NOT NULL DEFAULT '';
