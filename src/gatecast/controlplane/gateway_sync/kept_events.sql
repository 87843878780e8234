-- name: keep_event
INSERT INTO gatecast_kept_events (gateway_id, entity_type, entity_id, type, action, payload, kept_at)
VALUES ($1, $2, $3, $4, $5, $6, now())
ON CONFLICT (gateway_id, entity_type, entity_id) DO UPDATE SET type = excluded.type, action = excluded.action,
    payload = excluded.payload, kept_at = excluded.kept_at

-- name: forget_event
DELETE FROM gatecast_kept_events WHERE gateway_id = $1 AND entity_type = $2 AND entity_id = $3

-- name: is_kept
SELECT 1 AS found FROM gatecast_kept_events WHERE gateway_id = $1 AND entity_type = $2 AND entity_id = $3

-- name: count_kept
SELECT count(*) AS kept FROM gatecast_kept_events WHERE gateway_id = $1

-- name: kept_events
SELECT entity_type, entity_id, type, action, payload FROM gatecast_kept_events
WHERE gateway_id = $1 ORDER BY kept_at, entity_type, entity_id
