-- name: migrations
SELECT number FROM schema_migrations ORDER BY number

-- name: copy_migrations
INSERT INTO gatecast_schema_migrations (number, name, applied_at) SELECT number, name, applied_at FROM schema_migrations

-- name: refuse_earlier_releases
-- They look for the newest number in this table, find one that they do not know, and refuse the file.
INSERT INTO schema_migrations (number, name, applied_at) VALUES ($1, 'prefixed_tables', now())

-- name: indexes_and_triggers
-- Those of our tables, by their former names: they must be recreated. Those of other tables stay as they are.
SELECT type, name, sql FROM sqlite_schema
WHERE tbl_name GLOB 'gatecast_*' AND type IN ('index', 'trigger') AND sql IS NOT NULL
  AND name GLOB substr(tbl_name, length('gatecast_') + 1) || '_*'
