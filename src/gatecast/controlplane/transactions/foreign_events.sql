-- name: lock_to_count
SELECT id FROM gatecast_gateways WHERE id IN (SELECT key FROM json_each($1)) ORDER BY id FOR NO KEY UPDATE

-- name: count_own_events
UPDATE gatecast_gateways SET own_events = own_events + CAST(json_extract_path_text(c.value, 'count') AS bigint)
FROM json_each($1) AS c WHERE gatecast_gateways.id = c.key

-- name: own_events
SELECT own_events FROM gatecast_gateways WHERE id = $1

-- name: mark_unlisted
UPDATE gatecast_gateways SET unlisted = $2 WHERE id = $1

-- name: mark_unrestored
UPDATE gatecast_gateways SET unrestored = $2 WHERE id = $1
