-- Which log this is: the epoch of its first history that is known. It stays the same when a new history begins, and goes
-- along when the log is moved.
CREATE TABLE gatecast_identity (
    only_row integer PRIMARY KEY CHECK (only_row = 1),
    log      text NOT NULL
);
INSERT INTO gatecast_identity (only_row, log) SELECT 1, current FROM gatecast_epoch;

-- The newest claim of everyone who registers gateways under one, as an outbox does: earlier ones are void.
CREATE TABLE gatecast_claims (
    owner text PRIMARY KEY,
    token text NOT NULL
);
