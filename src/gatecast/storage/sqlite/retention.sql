-- name: trimmable
-- At most $4 gateways whose oldest event may go: older than $1, or one of more than $3, or confirmed and older than $2.
-- From the gateway $5 on, of whose log only what is not after $6 counts.
SELECT s.gateway_id, s.head
FROM (SELECT gateway_id, log_id, trimmed_through, CASE WHEN gateway_id = $5 THEN min(head, $6) ELSE head END AS head
      FROM gatecast_gateway_streams WHERE gateway_id >= $5) AS s
CROSS JOIN gatecast_events AS oldest ON oldest.log_id = s.log_id AND oldest."offset" = s.trimmed_through + 1
WHERE oldest."offset" <= s.head
  AND (oldest.recorded_at < $1
       OR s.head - s.trimmed_through > $3
       OR (oldest.recorded_at < $2
           AND (SELECT min(c.confirmed) FROM gatecast_cursors AS c JOIN gatecast_epoch AS epoch ON epoch.current = c.epoch
                WHERE c.gateway_id = s.gateway_id) > s.trimmed_through
           AND NOT EXISTS (SELECT 1 FROM gatecast_outcomes AS o
                           WHERE o.log_id = s.log_id AND o."offset" = s.trimmed_through + 1
                             AND o.kind IN ('parked', 'held', 'retried', 'skipped', 'undeliverable'))))
ORDER BY s.gateway_id LIMIT $4

-- name: cut
-- How far the log $1 may go, at most $5 events and up to $6, by the same three rules. Only an unbroken run from the front counts
-- (scenario S19), so each age ends at the first event that is too young, whatever the clock did in between.
WITH log AS (
    SELECT log_id, min(head, $6) AS head, trimmed_through, min(head, $6, trimmed_through + $5) AS last,
           -- Parked and held events are confirmed, but not handled.
           min(coalesce((SELECT min(c.confirmed) FROM gatecast_cursors AS c JOIN gatecast_epoch AS epoch ON epoch.current = c.epoch
                         WHERE c.gateway_id = s.gateway_id), 0),
               coalesce((SELECT min(o."offset") - 1 FROM gatecast_outcomes AS o
                         WHERE o.log_id = s.log_id AND o.kind IN ('parked', 'held', 'retried', 'skipped', 'undeliverable')), head)) AS confirmed
    FROM gatecast_gateway_streams AS s WHERE gateway_id = $1
), age AS (
    SELECT coalesce((SELECT e."offset" - 1 FROM gatecast_events AS e
                     WHERE e.log_id = log.log_id AND e."offset" > trimmed_through AND e."offset" <= last
                       AND e.recorded_at >= $2
                     ORDER BY e."offset" LIMIT 1), last) AS too_old,
           coalesce((SELECT e."offset" - 1 FROM gatecast_events AS e
                     WHERE e.log_id = log.log_id AND e."offset" > trimmed_through AND e."offset" <= last
                       AND e.recorded_at >= $3
                     ORDER BY e."offset" LIMIT 1), last) AS old
    FROM log
)
SELECT log_id, trimmed_through, max(trimmed_through, min(last, max(too_old, head - $4, min(old, confirmed))))
FROM log CROSS JOIN age

-- name: remove_events
DELETE FROM gatecast_events WHERE log_id = $1 AND "offset" <= $2

-- name: remove_outcomes
DELETE FROM gatecast_outcomes WHERE log_id = $1 AND "offset" <= $2

-- name: remove_passages
DELETE FROM gatecast_passages WHERE log_id = $1 AND through <= $2

-- name: note_lost
-- The caps also remove parked events: these replicas must learn that events are missing (promise P6).
UPDATE gatecast_cursors SET resync_reason = 'parked' WHERE gateway_id = $1 AND EXISTS (
    SELECT 1 FROM gatecast_outcomes AS o WHERE o.log_id = $2 AND o.replica = gatecast_cursors.replica AND o."offset" <= $3
      AND o.kind IN ('parked', 'held', 'retried', 'skipped', 'undeliverable'))

-- name: dismiss_losers
-- They reconnect and learn of the loss.
UPDATE gatecast_connections SET dismissal = 'restarting' WHERE gateway_id = $1 AND dismissal IS NULL AND EXISTS (
    SELECT 1 FROM gatecast_outcomes AS o WHERE o.log_id = $2 AND o.replica = gatecast_connections.replica AND o."offset" <= $3
      AND o.kind IN ('parked', 'held', 'retried', 'skipped', 'undeliverable'))

-- name: move_trimmed_through
UPDATE gatecast_gateway_streams
SET trimmed_through = $2, trimmed_seq = max(trimmed_seq, coalesce(
        (SELECT max(e.changed_seq) FROM gatecast_events AS e
         WHERE e.log_id = gatecast_gateway_streams.log_id AND e."offset" > gatecast_gateway_streams.trimmed_through AND e."offset" <= $2), 0))
WHERE gateway_id = $1

-- name: forgotten_logs
SELECT log_id FROM gatecast_forgotten_logs ORDER BY log_id LIMIT $1

-- name: front
-- Where the first $2 events of the log $1 end, and how many there are.
SELECT coalesce(max("offset"), 0), count(*)
FROM (SELECT "offset" FROM gatecast_events WHERE log_id = $1 ORDER BY "offset" LIMIT $2)

-- name: remove_all_outcomes
DELETE FROM gatecast_outcomes WHERE log_id = $1

-- name: remove_all_passages
DELETE FROM gatecast_passages WHERE log_id = $1

-- name: finish_forgotten_log
DELETE FROM gatecast_forgotten_logs WHERE log_id = $1
