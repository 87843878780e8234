-- The change that recorded an event, so that a reader who knows a place in the order of changes finds its place in each log.
-- What is there already counts as recorded before every change that is remembered.
ALTER TABLE events ADD COLUMN changed_seq integer NOT NULL DEFAULT 0;

-- The last change of those that recorded what retention has removed.
ALTER TABLE gateway_streams ADD COLUMN trimmed_seq integer NOT NULL DEFAULT 0;

-- A process of an earlier release that still runs does not say which change it is.
CREATE TRIGGER events_changed_seq AFTER INSERT ON events WHEN new.changed_seq = 0
BEGIN
    UPDATE events SET changed_seq = (SELECT last_change FROM epoch) WHERE rowid = new.rowid;
END;
