-- name: lock_log
-- Nobody appends until this transaction ends.
SELECT log_id, head FROM gatecast.gateway_streams WHERE gateway_id = $1 FOR NO KEY UPDATE

-- name: with_outcomes
-- Few have: those with an event that waits, was decided, or got its final outcome after their start. One look for each
-- of those that connect at the same time, regardless of statistics.
SELECT r.key FROM json_each($1) AS r
     CROSS JOIN LATERAL (SELECT log_id FROM gatecast.gateway_streams
                         WHERE gateway_id = json_extract_path_text(r.value, 'gateway') LIMIT 1) s
WHERE EXISTS (
    SELECT FROM gatecast.outcomes o WHERE o.log_id = s.log_id AND o.replica = json_extract_path_text(r.value, 'replica')
      AND (o.kind IN ('parked', 'undeliverable', 'held', 'retried', 'skipped')
           OR o.kind IN ('released', 'rejected', 'omitted') AND o."offset" > json_extract_path_text(r.value, 'after')::bigint))

-- name: entities
-- The parked and held entities of a replica, and the decisions.
SELECT DISTINCT o.kind, e.entity_type, e.entity_id
FROM gatecast.gateway_streams s
JOIN gatecast.outcomes o ON o.log_id = s.log_id
JOIN gatecast.events e ON e.log_id = o.log_id AND e."offset" = o."offset"
WHERE s.gateway_id = $1 AND o.replica = $2 AND o.kind IN ('parked', 'undeliverable', 'held', 'retried', 'skipped')

-- name: settled
-- Events that were published again, or left out.
SELECT o."offset" FROM gatecast.gateway_streams s JOIN gatecast.outcomes o ON o.log_id = s.log_id
WHERE s.gateway_id = $1 AND o.replica = $2 AND o.kind IN ('released', 'rejected', 'omitted') AND o."offset" > $3

-- name: to_release
-- The events of an entity from the first held or retried one, or after the first skipped one, up to $5, without those
-- that were published again already or are left out.
SELECT e."offset", e.event_id, e.recorded_at, e.type, e.action, e.entity_type, e.entity_id, e.payload, e.trace_parent,
       CASE WHEN e.originated_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
            THEN e.originated_at END AS originated_at
FROM gatecast.events e
WHERE e.log_id = $1 AND e.entity_type = $3 AND e.entity_id = $4 AND e."offset" <= $5 AND e."offset" >= (
        SELECT min(CASE o.kind WHEN 'skipped' THEN o."offset" + 1 ELSE o."offset" END) FROM gatecast.outcomes o
        JOIN gatecast.events h ON h.log_id = o.log_id AND h."offset" = o."offset"
        WHERE o.log_id = $1 AND o.replica = $2 AND o.kind IN ('held', 'retried', 'skipped') AND h.entity_type = $3 AND h.entity_id = $4)
    AND NOT EXISTS (
        SELECT FROM gatecast.outcomes r
        WHERE r.log_id = $1 AND r.replica = $2 AND r."offset" = e."offset" AND r.kind IN ('released', 'skipped', 'rejected', 'omitted'))
ORDER BY e."offset"

-- name: note_released
INSERT INTO gatecast.outcomes (log_id, replica, "offset", kind, reason) VALUES ($1, $2, $3, 'released', '')
ON CONFLICT (log_id, "offset", replica) DO UPDATE SET kind = excluded.kind, recorded_at = now()

-- name: note_undeliverable
-- Tried again, and still unreadable: its entity is parked again.
INSERT INTO gatecast.outcomes (log_id, replica, "offset", kind, reason) VALUES ($1, $2, $3, 'undeliverable', $4)
ON CONFLICT (log_id, "offset", replica) DO UPDATE
SET kind = excluded.kind, reason = excluded.reason, recorded_at = now()

-- name: left_out
-- Undeliverable events that the log skips, and those that it tries again.
SELECT o."offset", o.kind FROM gatecast.gateway_streams s JOIN gatecast.outcomes o ON o.log_id = s.log_id
WHERE s.gateway_id = $1 AND o.replica = $2 AND o.kind IN ('omitted', 'retried') AND o."offset" > $3

-- name: try_again
DELETE FROM gatecast.outcomes o USING gatecast.gateway_streams s
WHERE s.gateway_id = $1 AND o.log_id = s.log_id AND o.replica = $2 AND o.kind = 'retried' AND o."offset" > $3

-- name: end_skips
-- The events after the skipped ones of an entity were published again.
UPDATE gatecast.outcomes o SET kind = 'omitted'
FROM (
    SELECT s."offset" FROM gatecast.outcomes s JOIN gatecast.events e ON e.log_id = s.log_id AND e."offset" = s."offset"
    WHERE s.log_id = $1 AND s.replica = $2 AND s.kind = 'skipped' AND e.entity_type = $3 AND e.entity_id = $4
    ORDER BY s."offset" FOR UPDATE OF s
) skipped
WHERE o.log_id = $1 AND o.replica = $2 AND o."offset" = skipped."offset"

-- name: parked
-- The first rejected or undeliverable event of each entity, and how many later ones of it wait with it.
SELECT o.replica, e.entity_type, e.entity_id, o."offset", e.event_id, o.reason, o.recorded_at, o.kind,
       (SELECT count(*) FROM gatecast.outcomes h
        JOIN gatecast.events f ON f.log_id = h.log_id AND f."offset" = h."offset"
        WHERE h.log_id = o.log_id AND h.replica = o.replica AND h.kind IN ('parked', 'undeliverable', 'held')
          AND h."offset" <> o."offset" AND f.entity_type = e.entity_type AND f.entity_id = e.entity_id) AS held
FROM gatecast.gateway_streams s
JOIN gatecast.outcomes o ON o.log_id = s.log_id
JOIN gatecast.events e ON e.log_id = o.log_id AND e."offset" = o."offset"
WHERE s.gateway_id = $1 AND o.kind IN ('parked', 'undeliverable') AND o."offset" > $2 AND NOT EXISTS (
    SELECT FROM gatecast.outcomes p JOIN gatecast.events g ON g.log_id = p.log_id AND g."offset" = p."offset"
    WHERE p.log_id = o.log_id AND p.replica = o.replica AND p.kind IN ('parked', 'undeliverable') AND p."offset" < o."offset"
      AND g.entity_type = e.entity_type AND g.entity_id = e.entity_id)
ORDER BY o."offset", o.replica LIMIT $3

-- name: resolve
-- Retention leaves the log alone meanwhile, and outcomes are locked in the order in which they are recorded.
WITH log AS MATERIALIZED (
    SELECT log_id FROM gatecast.gateway_streams WHERE gateway_id = $1 FOR KEY SHARE
), parked AS MATERIALIZED (
    SELECT p.log_id, p."offset" FROM gatecast.outcomes p JOIN log l USING (log_id)
    JOIN gatecast.events e ON e.log_id = p.log_id AND e."offset" = p."offset"
    WHERE p.replica = $2 AND p.kind IN ('parked', 'undeliverable') AND e.entity_type = $3 AND e.entity_id = $4
    ORDER BY p."offset" FOR UPDATE OF p
)
UPDATE gatecast.outcomes o SET kind = CASE o.kind WHEN 'undeliverable' THEN $6 ELSE $5 END FROM parked p
WHERE o.log_id = p.log_id AND o.replica = $2 AND o."offset" = p."offset"

-- name: dismiss_replica
-- Its present connections keep holding what they hold; the next one learns anew what to hold.
SELECT gatecast.dismiss_positions_v1(ARRAY[$1::text], ARRAY[$2::text])
