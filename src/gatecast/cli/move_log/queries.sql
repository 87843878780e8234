-- Of a log that is moved to a stream. Understood by PostgreSQL and SQLite alike; for SQLite, names begin with `gatecast_`.

-- name: history
SELECT CAST(e.current AS text) AS epoch, CAST(i.log AS text) AS log FROM gatecast.epoch e CROSS JOIN gatecast.identity i

-- name: logs
SELECT gateway_id, log_id, head, trimmed_through, last_event_id, CAST(registered_in AS text) AS registered_in
FROM gatecast.gateway_streams ORDER BY gateway_id

-- name: events
-- The next events of a log: bounded in rows and bytes, but at least one. An instant that no driver could decode comes as
-- NULL.
SELECT * FROM (
    SELECT i.*, sum(i.size) OVER (ORDER BY i."offset") AS bytes FROM (
        SELECT "offset", event_id, type, action, entity_type, entity_id, payload, size, trace_parent,
               CASE WHEN originated_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00:00'
                    THEN originated_at END AS originated_at,
               CASE WHEN recorded_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00:00'
                    THEN recorded_at END AS recorded_at
        FROM gatecast.events WHERE log_id = $1 AND "offset" > $2 ORDER BY "offset" LIMIT $3) i) w
WHERE w.bytes <= $4 OR w.bytes = w.size ORDER BY w."offset"

-- name: positions
SELECT gateway_id, replica, CAST(epoch AS text) AS epoch, sent, confirmed, resync_reason,
       CASE WHEN updated_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00:00'
            THEN updated_at END AS updated_at
FROM gatecast.cursors ORDER BY gateway_id, replica

-- name: outcomes
-- With what their events are about, in the order of the key, after one of them.
SELECT o.log_id, o."offset", o.replica, o.kind, o.reason, e.entity_type, e.entity_id, e.event_id,
       CASE WHEN o.recorded_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00:00'
            THEN o.recorded_at END AS recorded_at
FROM gatecast.outcomes o JOIN gatecast.events e ON e.log_id = o.log_id AND e."offset" = o."offset"
WHERE (o.log_id, o."offset", o.replica) > ($1, $2, $3) ORDER BY o.log_id, o."offset", o.replica LIMIT $4

-- name: mark_gateways
-- Everything that was published is in the log.
INSERT INTO gatecast_outbox_gateways (gateway_id, outbox_log, forwarded, log_epoch, log_head)
SELECT gateway_id, log_id, head, CAST($1 AS text), head FROM gatecast.gateway_streams

-- name: bind
UPDATE gatecast_outbox_forwarder SET log = $1, log_place = $2

-- name: count_events
-- Those of the gateways that are registered.
SELECT count(*) AS events FROM gatecast.gateway_streams s JOIN gatecast.events e ON e.log_id = s.log_id
WHERE e."offset" > s.trimmed_through AND e."offset" <= s.head

-- name: ends
SELECT gateway_id, log_id, head FROM gatecast.gateway_streams

-- name: bound
SELECT log FROM gatecast_outbox_forwarder

-- name: empty_logs
UPDATE gatecast.gateway_streams SET trimmed_through = head

-- name: begin_identity
-- The outbox is a log of its own from now on.
UPDATE gatecast.identity SET log = $1
