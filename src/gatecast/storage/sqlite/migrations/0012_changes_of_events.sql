-- The change that recorded an event, so that a reader who knows a place in the order of changes finds its place in each log.
-- What is there already counts as recorded before every change that is remembered.
ALTER TABLE gatecast_events ADD COLUMN changed_seq integer NOT NULL DEFAULT 0;

-- The last change of those that recorded what retention has removed.
ALTER TABLE gatecast_gateway_streams ADD COLUMN trimmed_seq integer NOT NULL DEFAULT 0;

-- A process of an earlier release that still runs does not say which change it is.
CREATE TRIGGER gatecast_events_changed_seq AFTER INSERT ON gatecast_events WHEN new.changed_seq = 0
BEGIN
    UPDATE gatecast_events SET changed_seq = (SELECT last_change FROM gatecast_epoch) WHERE rowid = new.rowid;
END;
