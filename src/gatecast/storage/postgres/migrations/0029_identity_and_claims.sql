-- Which log this is: the epoch of its first history. It stays the same when a new history begins, and goes along when the
-- tables are loaded elsewhere.
CREATE TABLE gatecast.identity (
    only_row integer PRIMARY KEY CHECK (only_row = 1),
    log      uuid NOT NULL
);
INSERT INTO gatecast.identity (only_row, log) SELECT 1, coalesce(e.lineage[1], e.current) FROM gatecast.epoch e;

-- The newest claim of everyone who registers gateways under one, as an outbox does: earlier ones are void.
CREATE TABLE gatecast.claims (
    owner text PRIMARY KEY,
    token text NOT NULL
);
