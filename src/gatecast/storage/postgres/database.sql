-- name: lock_migrations
-- Two pods that start at once: the second waits here, then finds nothing left to do.
SELECT pg_advisory_xact_lock(hashtext('gatecast.migrations'))

-- name: prepare_migrations
CREATE SCHEMA IF NOT EXISTS gatecast;
CREATE TABLE IF NOT EXISTS gatecast.schema_migrations (
    number     integer PRIMARY KEY,
    name       text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS gatecast.schema_functions (
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (name, checksum)
);

-- name: applied_migrations
SELECT number FROM gatecast.schema_migrations ORDER BY number

-- name: note_migration
INSERT INTO gatecast.schema_migrations (number, name) VALUES ($1, $2)

-- name: applied_functions
SELECT name, checksum FROM gatecast.schema_functions

-- name: note_functions
INSERT INTO gatecast.schema_functions (name, checksum) VALUES ($1, $2)
