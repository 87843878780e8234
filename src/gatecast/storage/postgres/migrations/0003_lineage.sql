-- Where a history comes from, so that it is noticed when another server, or another copy of the tables, takes its place.

ALTER TABLE gatecast.epoch
    -- The cluster, the database in it, and the timeline that the history was last known to live on; null: not recorded yet.
    ADD COLUMN cluster     text,
    ADD COLUMN timeline    text,
    -- Whether commits waited for a standby there.
    ADD COLUMN synchronous boolean NOT NULL DEFAULT false,
    -- The transaction that wrote this row, which is also its xmin; not so in tables that were loaded from a dump.
    ADD COLUMN written_by  xid8 NOT NULL DEFAULT pg_current_xact_id();
UPDATE gatecast.epoch SET written_by = pg_current_xact_id();

-- Of the event at the head: retention may remove it. Null: not known.
ALTER TABLE gatecast.gateway_streams ADD COLUMN last_event_id uuid;
