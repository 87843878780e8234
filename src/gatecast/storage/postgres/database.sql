-- name: lock_migrations
-- Two pods that start at once: the second waits here, then finds nothing left to do.
SELECT pg_advisory_xact_lock(hashtext('gatecast.migrations'))

-- name: compile_nothing
-- For the transaction only: a pooler gives the session to another client next.
SET LOCAL jit = off

-- name: role
-- The current role, and where it finds each of these tables; this needs no privilege.
SELECT current_user::text AS role, current_schema()::text AS creates_in, t.schema, t.name, n.nspname::text AS found_in,
       t.schema <> '' OR pg_table_is_visible(c.oid) AS visible, has_schema_privilege(n.oid, 'USAGE') AS usable,
       ARRAY(SELECT p FROM unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) p
             WHERE NOT has_table_privilege(c.oid, p)) AS lacking
FROM unnest($1::text[], $2::text[]) AS t(schema, name)
     LEFT JOIN pg_catalog.pg_class c ON c.relname = t.name AND c.relkind IN ('r', 'p')
          AND (t.schema = '' OR c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = t.schema))
     LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
ORDER BY t.schema, t.name

-- name: is_outbox
-- Asks the catalog, which needs no right.
SELECT relname FROM pg_catalog.pg_class WHERE relname = 'gatecast_outbox_forwarder' AND relkind = 'r'

-- name: replication
-- This needs no privilege, but a role without pg_read_all_stats learns only that standbys are connected. A running base
-- backup does not count. A standby that is still catching up is no candidate yet: its sync_state is `potential`.
SELECT current_setting('synchronous_standby_names') AS names, count(*) FILTER (WHERE state IS DISTINCT FROM 'backup') AS connected,
       CASE WHEN count(*) = count(state) THEN count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')) END AS in_sync
FROM pg_stat_replication
HAVING NOT pg_is_in_recovery()

-- name: prepare_migrations
-- Only if it is missing: PostgreSQL checks the right to create it even if it exists.
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'gatecast') THEN
        CREATE SCHEMA gatecast;
    END IF;
END $$;
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
