-- Events that cannot be read or sent: an outcome of their own, and one for those that somebody decided to leave out.
-- SQLite cannot change a constraint, so the table is made anew.
CREATE TABLE gatecast_new_outcomes (
    log_id      integer NOT NULL,
    "offset"    integer NOT NULL,
    replica     text NOT NULL,
    kind        text NOT NULL CHECK (kind IN (
                    'applied', 'rejected', 'parked', 'held', 'retried', 'skipped', 'released', 'undeliverable', 'omitted')),
    reason      text NOT NULL,
    recorded_at text NOT NULL,
    PRIMARY KEY (log_id, "offset", replica)
) WITHOUT ROWID;
INSERT INTO gatecast_new_outcomes (log_id, "offset", replica, kind, reason, recorded_at)
SELECT log_id, "offset", replica, kind, reason, recorded_at FROM gatecast_outcomes;
DROP TABLE gatecast_outcomes;
ALTER TABLE gatecast_new_outcomes RENAME TO gatecast_outcomes;
CREATE INDEX gatecast_outcomes_parking ON gatecast_outcomes (log_id, replica, kind, "offset")
    WHERE kind IN ('parked', 'held', 'retried', 'skipped', 'released', 'rejected', 'undeliverable', 'omitted');
