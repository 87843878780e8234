-- name: record
-- Only for an event that is in the log.
INSERT INTO outcomes (gateway_id, "offset", replica, kind, reason, recorded_at)
SELECT gateway_id, "offset", $3, $4, $5, now() FROM events WHERE gateway_id = $1 AND "offset" = $2
ON CONFLICT (gateway_id, "offset", replica) DO UPDATE
SET kind = excluded.kind, reason = excluded.reason, recorded_at = excluded.recorded_at

-- name: of_events
SELECT "offset", replica, kind, reason, recorded_at FROM outcomes
WHERE gateway_id = $1 AND "offset" IN (SELECT value FROM json_each($2)) ORDER BY "offset", replica
