-- name: lock_log
-- Nobody appends until this transaction ends: there is one writer at a time.
SELECT log_id, head FROM gatecast_gateway_streams WHERE gateway_id = $1

-- name: with_outcomes
-- Few have: those with an event that waits, was decided, or got its final outcome after their start.
SELECT r.key FROM json_each($1) AS r
     JOIN gatecast_gateway_streams AS s ON s.gateway_id = json_extract_path_text(r.value, 'gateway')
WHERE EXISTS (
    SELECT 1 FROM gatecast_outcomes o WHERE o.log_id = s.log_id AND o.replica = json_extract_path_text(r.value, 'replica')
      AND (o.kind IN ('parked', 'undeliverable', 'held', 'retried', 'skipped')
           OR o.kind IN ('released', 'rejected', 'omitted') AND o."offset" > CAST(json_extract_path_text(r.value, 'after') AS integer)))

-- name: entities
-- The parked and held entities of a replica, and the decisions.
SELECT DISTINCT o.kind, e.entity_type, e.entity_id
FROM gatecast_gateway_streams s
JOIN gatecast_outcomes o ON o.log_id = s.log_id
JOIN gatecast_events e ON e.log_id = o.log_id AND e."offset" = o."offset"
WHERE s.gateway_id = $1 AND o.replica = $2 AND o.kind IN ('parked', 'undeliverable', 'held', 'retried', 'skipped')

-- name: settled
-- Events that were published again, or left out.
SELECT o."offset" FROM gatecast_gateway_streams s JOIN gatecast_outcomes o ON o.log_id = s.log_id
WHERE s.gateway_id = $1 AND o.replica = $2 AND o.kind IN ('released', 'rejected', 'omitted') AND o."offset" > $3

-- name: to_release
-- The events of an entity from the first held or retried one, or after the first skipped one, up to $5, without those
-- that were published again already or are left out.
SELECT e."offset", e.event_id, e.recorded_at, e.type, e.action, e.entity_type, e.entity_id, e.payload, e.originated_at, e.trace_parent
FROM gatecast_events e
WHERE e.log_id = $1 AND e.entity_type = $3 AND e.entity_id = $4 AND e."offset" <= $5 AND e."offset" >= (
        SELECT min(CASE o.kind WHEN 'skipped' THEN o."offset" + 1 ELSE o."offset" END) FROM gatecast_outcomes o
        JOIN gatecast_events h ON h.log_id = o.log_id AND h."offset" = o."offset"
        WHERE o.log_id = $1 AND o.replica = $2 AND o.kind IN ('held', 'retried', 'skipped') AND h.entity_type = $3 AND h.entity_id = $4)
    AND NOT EXISTS (
        SELECT 1 FROM gatecast_outcomes r
        WHERE r.log_id = $1 AND r.replica = $2 AND r."offset" = e."offset" AND r.kind IN ('released', 'skipped', 'rejected', 'omitted'))
ORDER BY e."offset"

-- name: note_released
INSERT INTO gatecast_outcomes (log_id, replica, "offset", kind, reason, recorded_at) VALUES ($1, $2, $3, 'released', '', now())
ON CONFLICT (log_id, "offset", replica) DO UPDATE SET kind = excluded.kind, recorded_at = excluded.recorded_at

-- name: note_undeliverable
-- Tried again, and still unreadable: its entity is parked again.
INSERT INTO gatecast_outcomes (log_id, replica, "offset", kind, reason, recorded_at)
VALUES ($1, $2, $3, 'undeliverable', $4, now())
ON CONFLICT (log_id, "offset", replica) DO UPDATE
SET kind = excluded.kind, reason = excluded.reason, recorded_at = excluded.recorded_at

-- name: left_out
-- Undeliverable events that the log skips, and those that it tries again.
SELECT o."offset", o.kind FROM gatecast_gateway_streams s JOIN gatecast_outcomes o ON o.log_id = s.log_id
WHERE s.gateway_id = $1 AND o.replica = $2 AND o.kind IN ('omitted', 'retried') AND o."offset" > $3

-- name: try_again
DELETE FROM gatecast_outcomes WHERE log_id = (SELECT s.log_id FROM gatecast_gateway_streams s WHERE s.gateway_id = $1)
  AND replica = $2 AND kind = 'retried' AND "offset" > $3

-- name: end_skips
-- The events after the skipped ones of an entity were published again.
UPDATE gatecast_outcomes SET kind = 'omitted'
WHERE log_id = $1 AND replica = $2 AND kind = 'skipped'
  AND EXISTS (SELECT 1 FROM gatecast_events e WHERE e.log_id = gatecast_outcomes.log_id AND e."offset" = gatecast_outcomes."offset"
                AND e.entity_type = $3 AND e.entity_id = $4)

-- name: parked
-- The first rejected or undeliverable event of each entity, and how many later ones of it wait with it.
SELECT o.replica, e.entity_type, e.entity_id, o."offset", e.event_id, o.reason, o.recorded_at, o.kind,
       (SELECT count(*) FROM gatecast_outcomes h
        JOIN gatecast_events f ON f.log_id = h.log_id AND f."offset" = h."offset"
        WHERE h.log_id = o.log_id AND h.replica = o.replica AND h.kind IN ('parked', 'undeliverable', 'held')
          AND h."offset" <> o."offset" AND f.entity_type = e.entity_type AND f.entity_id = e.entity_id) AS held
FROM gatecast_gateway_streams s
JOIN gatecast_outcomes o ON o.log_id = s.log_id
JOIN gatecast_events e ON e.log_id = o.log_id AND e."offset" = o."offset"
WHERE s.gateway_id = $1 AND o.kind IN ('parked', 'undeliverable') AND o."offset" > $2 AND NOT EXISTS (
    SELECT 1 FROM gatecast_outcomes p JOIN gatecast_events g ON g.log_id = p.log_id AND g."offset" = p."offset"
    WHERE p.log_id = o.log_id AND p.replica = o.replica AND p.kind IN ('parked', 'undeliverable') AND p."offset" < o."offset"
      AND g.entity_type = e.entity_type AND g.entity_id = e.entity_id)
ORDER BY o."offset", o.replica LIMIT $3

-- name: resolve
UPDATE gatecast_outcomes SET kind = CASE kind WHEN 'undeliverable' THEN $6 ELSE $5 END
WHERE log_id = (SELECT s.log_id FROM gatecast_gateway_streams s WHERE s.gateway_id = $1)
  AND replica = $2 AND kind IN ('parked', 'undeliverable')
  AND EXISTS (SELECT 1 FROM gatecast_events e WHERE e.log_id = gatecast_outcomes.log_id AND e."offset" = gatecast_outcomes."offset"
                AND e.entity_type = $3 AND e.entity_id = $4)

-- name: dismiss_replica
-- Its present connections keep holding what they hold; the next one learns anew what to hold.
UPDATE gatecast_connections SET dismissal = 'restarting'
WHERE gateway_id = $1 AND replica = $2 AND dismissal IS NULL
