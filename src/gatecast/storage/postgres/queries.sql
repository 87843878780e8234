-- name: append_event
SELECT status, $1::text AS culprit, epoch, "offset"
FROM gatecast.append_event_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)

-- name: append_events
SELECT status, culprit, epoch, "offset"
FROM gatecast.append_events_v1($1::text::integer[], $2, $3, $4, $5, $6, $7, $8, $9, $10::text::integer[], $11, $12, $13)

-- name: append_events_to_logs
-- As `append_events`, but only to these logs ($13, one for each event), without waiting. The lock keeps a log from
-- being deleted meanwhile. The arguments depend on it, so it is taken first.
WITH held AS MATERIALIZED (
    SELECT log_id FROM gatecast.gateway_streams WHERE gateway_id = ANY ($2::text[]) FOR KEY SHARE SKIP LOCKED
), wanted AS MATERIALIZED (
    SELECT w.*, w.log_id IN (SELECT log_id FROM held) AS is_held,
           EXISTS (SELECT FROM gatecast.gateway_streams s
                   WHERE s.gateway_id = w.gateway_id AND s.log_id = w.log_id) AS is_there
    FROM unnest($2::text[], $13::text::bigint[]) WITH ORDINALITY AS w(gateway_id, log_id, number)
)
SELECT CASE WHEN a.status = 'unknown' AND w.is_there AND NOT w.is_held THEN 'busy' ELSE a.status END AS status,
       w.gateway_id AS culprit, a.epoch, a."offset"
FROM (SELECT array_agg(CASE WHEN is_held THEN gateway_id ELSE '' END ORDER BY number) AS gateway_ids FROM wanted) l
     CROSS JOIN LATERAL gatecast.append_events_v1($1::text::integer[], l.gateway_ids, $3, $4, $5, $6, $7, $8, $9,
                                                  $10::text::integer[], $11, false, $12) a
     JOIN wanted w ON w.number = a.number
ORDER BY a.number

-- name: changed_since
-- The marker is the oldest transaction that was still running: everything older has committed and been seen. Rows on the
-- border repeat. One row always comes back, so that the marker and the history belong to the same snapshot as the heads.
-- In tables that were loaded into a younger cluster, logs carry transaction ids that this cluster has not reached yet:
-- only the question for everything names those.
SELECT h.epoch, h.server, h.synchronous, h.settled, e.lineage,
       pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS marker,
       (SELECT least(pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
                     coalesce((SELECT l.changed_xid::text::bigint + 1 FROM gatecast.gateway_streams l
                               WHERE l.changed_xid < pg_snapshot_xmax(pg_current_snapshot())
                               ORDER BY l.changed_xid DESC LIMIT 1), 1))) AS lasting,
       extract(epoch FROM clock_timestamp())::float8 AS answered_at, s.gateway_id, s.head
FROM gatecast.history_v1() h CROSS JOIN gatecast.epoch e LEFT JOIN gatecast.gateway_streams s
     ON s.changed_xid >= $1::text::xid8
        AND s.changed_xid < CASE $1::text WHEN '0' THEN '18446744073709551615'::xid8
                                          ELSE pg_snapshot_xmax(pg_current_snapshot()) END

-- name: read
-- The next events of many gateways in one round trip: an index range scan for each, bounded in rows and bytes. An instant
-- that no driver could decode comes as NULL, so that its row alone is at fault and not the whole answer.
SELECT r.number, h.epoch, h.server, s.log_id, s.head, s.last_event_id, s.trimmed_through, e."offset", e.event_id, e.type,
       e.action, e.entity_type, e.entity_id, e.payload, e.originated_at, e.recorded_at, e.trace_parent
FROM unnest($1::text::text[], $2::text::bigint[], $3::text::integer[], $4::text::bigint[])
         WITH ORDINALITY AS r(gateway_id, after, max_events, max_bytes, number)
     CROSS JOIN gatecast.history_v1() h
     CROSS JOIN LATERAL (SELECT log_id, head, last_event_id, trimmed_through FROM gatecast.gateway_streams
                         WHERE gateway_id = r.gateway_id LIMIT 1) s
     LEFT JOIN LATERAL (
         SELECT w.* FROM (
             SELECT i.*, sum(i.size) OVER (ORDER BY i."offset") AS bytes FROM (
                 SELECT "offset", event_id, type, action, entity_type, entity_id, payload, size,
                        CASE WHEN originated_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
                             THEN originated_at END AS originated_at,
                        CASE WHEN recorded_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
                             THEN recorded_at END AS recorded_at, trace_parent
                 FROM gatecast.events WHERE log_id = s.log_id AND "offset" > r.after
                 ORDER BY "offset" LIMIT r.max_events) i) w
         WHERE w.bytes <= r.max_bytes OR w.bytes = w.size) e ON true
ORDER BY r.number, e."offset"

-- name: read_few
-- As `read`, planned once: the same columns for the same arguments.
SELECT * FROM gatecast.read_v1($1::text::text[], $2::text::bigint[], $3::text::integer[], $4::text::bigint[])

-- name: places
-- Backwards from the end of each log to the first event that is older than the marker ($2). Offsets follow commits, so
-- every earlier offset was committed before that event. In tables that were loaded into a younger cluster, old events
-- carry transaction ids that this cluster has not reached.
SELECT s.gateway_id, s.log_id, greatest(s.trimmed_through, coalesce(e."offset", 0)) AS "offset",
       e."offset" IS NULL AND s.trimmed_through > 0 AND s.trimmed_xid >= $2::text::xid8
           AND s.trimmed_xid < pg_snapshot_xmax(pg_current_snapshot()) AS is_gap
FROM gatecast.gateway_streams s LEFT JOIN LATERAL (
    SELECT i."offset" FROM gatecast.events i
    WHERE i.log_id = s.log_id
      AND (i.changed_xid < $2::text::xid8 OR i.changed_xid >= pg_snapshot_xmax(pg_current_snapshot()))
    ORDER BY i."offset" DESC LIMIT 1) e ON true
WHERE s.gateway_id = ANY ($1)

-- name: find
-- Where those of these events ($2) are that are in the log of the gateway ($1).
SELECT e.event_id, e."offset", p.current AS epoch
FROM gatecast.epoch p, gatecast.gateway_streams s
     CROSS JOIN unnest($2::uuid[]) AS w(event_id)
     JOIN gatecast.events e ON e.log_id = s.log_id AND e.event_id = w.event_id
WHERE s.gateway_id = $1

-- name: is_held
-- A transaction that appends holds the row, so it is skipped here. The lock that this takes ends with the statement.
WITH free AS MATERIALIZED (
    SELECT gateway_id FROM gatecast.gateway_streams WHERE gateway_id = $1 FOR SHARE SKIP LOCKED
)
SELECT gateway_id FROM gatecast.gateway_streams WHERE gateway_id = $1 AND NOT EXISTS (SELECT FROM free)

-- name: register
SELECT gatecast.register_gateway($1) AS created

-- name: register_under_claim
SELECT gatecast.register_under_claim_v1($1, $2, $3) AS created

-- name: claim
SELECT gatecast.claim_v1($1, $2)

-- name: identity
SELECT log FROM gatecast.identity

-- name: forget_gateway
SELECT gatecast.forget_gateway_v1($1) AS forgotten

-- name: forget_log
SELECT gatecast.forget_log_v1($1, $2) AS forgotten

-- name: hint_everything
SELECT gatecast.hint_v1(NULL)

-- name: hint_gateways
-- $1 is a list of ids, in JSON.
SELECT pg_notify('gatecast', $1)

-- name: trim
SELECT removed, next_gateway_id, next_head FROM gatecast.trim_events_v2($1, $2, $3, $4, $5, $6, $7)

-- name: contradicted
SELECT count(*) AS events FROM gatecast.contradicted_v1($1, $2, $3, $4)

-- name: settle_history
SELECT gatecast.settle_history_v1($1, $2) AS epoch

-- name: renew_lease
SELECT gatecast.renew_lease_v1($1, $2) AS life

-- name: end_lease
SELECT gatecast.end_lease_v1($1)

-- name: standing
-- An index lookup for each of those that connect at the same time, regardless of statistics. Not from arrays: it would be
-- planned again for each single one, which takes twice as long as the lookup.
SELECT r.key, e.current AS epoch, s.head, s.trimmed_through, s.registered_in, c.epoch AS cursor_epoch, c.confirmed,
       c.resync_reason
FROM json_each($1) AS r
     CROSS JOIN gatecast.epoch e
     CROSS JOIN LATERAL (SELECT * FROM gatecast.gateway_streams
                         WHERE gateway_id = json_extract_path_text(r.value, 'gateway') LIMIT 1) s
     LEFT JOIN LATERAL (SELECT * FROM gatecast.cursors WHERE gateway_id = s.gateway_id
                        AND replica = json_extract_path_text(r.value, 'replica') LIMIT 1) c ON true

-- name: connect
-- One row for each connection that was recorded.
SELECT connection_id
FROM gatecast.connect_many_v2($1::text::text[], $2::text::text[], $3::text::text[], $4::text::text[], $5::text::text[],
                              $6::text::text[], $7, $8::text::uuid[], $9::text::bigint[], $10, $11, $12) AS c(connection_id)

-- name: record_progress
SELECT gatecast.record_progress_v2($1::text::text[], $2::text::text[], $3::text::text[], $4::text::uuid[],
                                   $5::text::bigint[], $6::text::bigint[], $7, $8::text::bigint[],
                                   $9::text::double precision[])

-- name: dismissals
SELECT connection_id, dismissal FROM gatecast.connections WHERE pod_id = $1 AND dismissal IS NOT NULL

-- name: dismiss_token
SELECT gatecast.dismiss_token_v1($1) AS dismissed

-- name: resynchronized
SELECT gatecast.resynchronized_v1($1, $2, $3, $4)

-- name: status
-- One row for each live connection, and one for a gateway without: in one statement, because it is one instant.
SELECT s.gateway_id, e.current AS epoch, s.head, s.trimmed_through, coalesce(p.sent, 0) AS sent,
       coalesce(p.confirmed, 0) AS confirmed, p.resync_reason, p.updated_at,
       extract(epoch FROM clock_timestamp() - CASE WHEN isfinite(o.recorded_at) THEN o.recorded_at END)::float8 AS lag_seconds,
       l.connection_id, l.pod_id, l.replica, l.protocol, l.remote, l.connected_at, l.sent AS connection_sent,
       l.confirmed AS connection_confirmed
FROM gatecast.gateway_streams s CROSS JOIN gatecast.epoch e
     LEFT JOIN LATERAL (
         SELECT max(c.sent) FILTER (WHERE c.epoch = e.current) AS sent,
                min(c.confirmed) FILTER (WHERE c.epoch = e.current) AS confirmed,
                max(CASE WHEN c.epoch = e.current THEN c.resync_reason ELSE 'epoch' END) AS resync_reason,
                max(c.updated_at) AS updated_at
         FROM gatecast.cursors c WHERE c.gateway_id = s.gateway_id) p ON true
     LEFT JOIN LATERAL (
         SELECT i.recorded_at FROM gatecast.events i
         WHERE i.log_id = s.log_id AND i."offset" > coalesce(p.confirmed, 0)
         ORDER BY i."offset" LIMIT 1) o ON true
     LEFT JOIN LATERAL (
         SELECT n.* FROM gatecast.connections n JOIN gatecast.pods d USING (pod_id)
         WHERE n.gateway_id = s.gateway_id AND d.lease_until > now() AND n.dismissal IS NULL) l ON true
WHERE s.gateway_id = ANY ($1)
ORDER BY s.gateway_id, l.connected_at, l.connection_id

-- name: record_outcomes
-- The key-share lock makes a concurrent deletion of a gateway wait, or makes us find it gone: later outcomes would
-- never be removed. It waits for retention as well, whose cut we then see.
WITH log AS MATERIALIZED (
    SELECT gateway_id, log_id, trimmed_through FROM gatecast.gateway_streams WHERE gateway_id = ANY ($1)
    ORDER BY gateway_id FOR KEY SHARE
), said AS (
    SELECT l.log_id, l.trimmed_through, n.*
    FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[])
             WITH ORDINALITY AS n(gateway_id, replica, "offset", kind, reason, number)
         JOIN log l USING (gateway_id)
), stored AS (
    INSERT INTO gatecast.outcomes AS o (log_id, replica, "offset", kind, reason)
    SELECT DISTINCT ON (n.log_id, n."offset", n.replica) n.log_id, n.replica, n."offset", n.kind, n.reason
    FROM said n
         JOIN gatecast.events e ON e.log_id = n.log_id AND e."offset" = n."offset"
    WHERE n."offset" > n.trimmed_through
    ORDER BY n.log_id, n."offset", n.replica, n.kind = 'held', n.number DESC
    ON CONFLICT (log_id, "offset", replica) DO UPDATE
    SET kind = excluded.kind, reason = excluded.reason, recorded_at = now()
    -- A decision stays, and a parked event stays parked: a connection that rejects or holds it again did not know yet.
    WHERE o.kind = 'applied'
       OR o.kind = 'held' AND excluded.kind IN ('parked', 'rejected', 'undeliverable')
       OR o.kind IN ('parked', 'rejected', 'undeliverable') AND excluded.kind IN ('applied', 'rejected')
       OR o.kind = 'rejected' AND excluded.kind = 'undeliverable'
       OR o.kind = 'undeliverable' AND excluded.kind = 'omitted'
    RETURNING 1
)
-- A cap removed the event while it was on its way: a replica that did not apply it must be told (promise P6). Outcomes
-- are counted so that they are locked before positions, like everywhere.
SELECT gatecast.lose_parked_v1(array_agg(n.gateway_id), array_agg(n.replica))
FROM (SELECT count(*) FROM stored) s CROSS JOIN said n
WHERE n.kind IN ('parked', 'held', 'undeliverable') AND n."offset" <= n.trimmed_through HAVING count(*) > 0

-- name: outcomes_of_events
SELECT $1 AS gateway_id, replica, "offset", kind, reason, recorded_at FROM gatecast.outcomes
WHERE log_id = (SELECT log_id FROM gatecast.gateway_streams WHERE gateway_id = $1) AND "offset" = ANY ($2)
ORDER BY "offset", replica

-- name: outcomes_of_many
-- One look into the index for each event ($1 and $2: gateways and offsets), whatever the statistics say.
SELECT w.gateway_id, o.replica, w."offset", o.kind, o.reason, o.recorded_at
FROM unnest($1::text[], $2::bigint[]) AS w(gateway_id, "offset")
     CROSS JOIN LATERAL (SELECT log_id FROM gatecast.gateway_streams WHERE gateway_id = w.gateway_id LIMIT 1) s
     CROSS JOIN LATERAL (SELECT i.* FROM gatecast.outcomes i WHERE i.log_id = s.log_id AND i."offset" = w."offset"
                         ORDER BY i.replica LIMIT 100) o
ORDER BY o.recorded_at, w.gateway_id, w."offset", o.replica

-- name: deliveries
-- The newest rows about one event. Reading, sending and confirming are less than 5,000 events apart.
SELECT * FROM (
    SELECT * FROM gatecast.passages
    WHERE log_id = (SELECT log_id FROM gatecast.gateway_streams WHERE gateway_id = $1)
      AND through >= $2::bigint AND through < $2 + 5000
      AND ($2 > picked_up_after AND $2 <= picked_up_through OR $2 > sent_after AND $2 <= sent_through
           OR $2 > confirmed_after AND $2 <= confirmed_through)
    ORDER BY number DESC LIMIT 60) newest
ORDER BY number

-- name: describe_pod
UPDATE gatecast.pods SET version = $2, started_at = now() WHERE pod_id = $1

-- name: pods
SELECT pod_id, extract(epoch FROM lease_until - now())::float8 AS lease_seconds, version, started_at
FROM gatecast.pods WHERE lease_until > now() ORDER BY pod_id

-- name: dismiss_connection
SELECT gatecast.dismiss_connection_v1($1, $2) AS dismissed
