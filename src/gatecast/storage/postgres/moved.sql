-- name: wait_a_little
-- A transaction that takes longer than this is not waited for: all that come later would wait as well.
SET LOCAL lock_timeout = '10s'

-- name: lock
-- In the order in which transactions lock rows of them; once we have all, what was written before is committed. Those that
-- have locked rows without having changed any are waited for as well: they would wait for us, and we for their rows.
LOCK TABLE gatecast.pods, gatecast.gateway_streams, gatecast.events, gatecast.forgotten_logs, gatecast.outcomes,
    gatecast.cursors, gatecast.connections, gatecast.passages, gatecast.claims, gatecast.identity, gatecast.epoch
    IN EXCLUSIVE MODE

-- name: blocking
SELECT tgargs FROM pg_catalog.pg_trigger
WHERE tgrelid = 'gatecast.gateway_streams'::regclass AND tgname = 'gatecast_moved' AND tgenabled <> 'D'

-- name: is_closed
SELECT tgname FROM pg_catalog.pg_trigger WHERE tgrelid = 'gatecast.pods'::regclass AND tgname = 'gatecast_closed'

-- name: begin_part
SAVEPOINT gatecast_emptying

-- name: end_part
-- What comes later must be of the transaction itself: the history names the one that has written it.
RELEASE SAVEPOINT gatecast_emptying

-- name: undo_part
ROLLBACK TO SAVEPOINT gatecast_emptying

-- name: truncate
SET LOCAL lock_timeout = '1s';
TRUNCATE gatecast.events, gatecast.outcomes, gatecast.passages

-- name: wait_long
SET LOCAL statement_timeout = 0

-- name: begin_history
UPDATE gatecast.epoch SET current = gen_random_uuid(), begun_at = now(), written_by = pg_current_xact_id(), cluster = NULL,
    timeline = NULL, lineage = '{}'
