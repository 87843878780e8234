-- What was decided about this history and those before it, each decision by an id, the last 100, oldest first; an epoch is the
-- decision that began it. Empty until the next decision: this must not write the row, whose writer is recorded.
ALTER TABLE gatecast.epoch ADD COLUMN lineage uuid[] NOT NULL DEFAULT '{}';
