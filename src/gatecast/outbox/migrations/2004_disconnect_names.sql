-- Numbers are given out again after a restore. A random name beside each tells whether a row is the one that was seen.
-- Understood by PostgreSQL and SQLite alike.
ALTER TABLE gatecast_outbox_disconnects ADD COLUMN name text NOT NULL DEFAULT '';
