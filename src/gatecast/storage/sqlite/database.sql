-- name: use_wal
-- Readers never wait for the writer. Stays with the file; answers with the mode that is now in force.
PRAGMA journal_mode = WAL

-- name: sync_fully
-- A commit returns when it is on disk (promise P1).
PRAGMA synchronous = FULL

-- name: checkpoint_seldom
-- Every 48 MiB instead of every 4: a page that many commits change is then copied into the file once, and not one commit
-- in a hundred waits for the copying.
PRAGMA wal_autocheckpoint = 12000

-- name: limit_log
-- Bytes that it keeps once it was emptied.
PRAGMA journal_size_limit = 67108864

-- name: wait_shortly
-- Milliseconds.
PRAGMA busy_timeout = 100

-- name: wait_long
-- As long as `BUSY_TIME_LIMIT`.
PRAGMA busy_timeout = 10000

-- name: empty_log
PRAGMA wal_checkpoint(TRUNCATE)

-- name: forget_pages
PRAGMA shrink_memory

-- name: enforce_references
PRAGMA foreign_keys = ON

-- name: only_read
PRAGMA query_only = ON

-- name: begin_writing
-- Takes the write lock at once: a transaction that first reads and then writes could fail in its middle.
BEGIN IMMEDIATE

-- name: begin_reading
-- The first read fixes what all of them see.
BEGIN

-- name: commit
COMMIT

-- name: roll_back
ROLLBACK

-- name: begin_part
SAVEPOINT gatecast

-- name: keep_part
RELEASE gatecast

-- name: undo_part
ROLLBACK TO gatecast

-- name: files
PRAGMA database_list

-- name: ping
-- Reads the file, which `SELECT 1` does not.
SELECT count(*) FROM sqlite_schema

-- name: is_outbox
SELECT name FROM sqlite_schema WHERE name = 'gatecast_outbox_forwarder'

-- name: prepare_migrations
CREATE TABLE IF NOT EXISTS gatecast_schema_migrations (
    number     integer PRIMARY KEY,
    name       text NOT NULL,
    applied_at text NOT NULL
)

-- name: applied_migrations
SELECT number FROM gatecast_schema_migrations ORDER BY number

-- name: note_migration
INSERT INTO gatecast_schema_migrations (number, name, applied_at) VALUES ($1, $2, now())

-- name: columns
-- The columns of a table; none: there is no such table.
SELECT name FROM pragma_table_info($1) ORDER BY name
