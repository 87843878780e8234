-- name: record
-- Only for an event that is in the log.
INSERT INTO gatecast_outcomes (log_id, "offset", replica, kind, reason, recorded_at)
SELECT e.log_id, e."offset", $3, $4, $5, now()
FROM gatecast_gateway_streams AS s CROSS JOIN gatecast_events AS e ON e.log_id = s.log_id
WHERE s.gateway_id = $1 AND e."offset" = $2
ON CONFLICT (log_id, "offset", replica) DO UPDATE
SET kind = excluded.kind, reason = excluded.reason, recorded_at = excluded.recorded_at
-- A decision stays, and a parked event stays parked: a connection that rejects or holds it again did not know yet.
WHERE gatecast_outcomes.kind = 'applied'
   OR gatecast_outcomes.kind = 'held' AND excluded.kind IN ('parked', 'rejected', 'undeliverable')
   OR gatecast_outcomes.kind IN ('parked', 'rejected', 'undeliverable') AND excluded.kind IN ('applied', 'rejected')
   OR gatecast_outcomes.kind = 'rejected' AND excluded.kind = 'undeliverable'
   OR gatecast_outcomes.kind = 'undeliverable' AND excluded.kind = 'omitted'

-- name: note_lost
-- A cap removed the event while it was on its way: a replica that did not apply it must be told (promise P6).
UPDATE gatecast_cursors SET resync_reason = 'parked' WHERE gateway_id = $1 AND replica = $3 AND EXISTS (
    SELECT 1 FROM gatecast_gateway_streams AS s WHERE s.gateway_id = $1 AND s.trimmed_through >= $2)

-- name: dismiss_loser
UPDATE gatecast_connections SET dismissal = 'restarting'
WHERE gateway_id = $1 AND replica = $3 AND dismissal IS NULL AND EXISTS (
    SELECT 1 FROM gatecast_gateway_streams AS s WHERE s.gateway_id = $1 AND s.trimmed_through >= $2)

-- name: of_events
SELECT $1 AS gateway_id, "offset", replica, kind, reason, recorded_at FROM gatecast_outcomes
WHERE log_id = (SELECT log_id FROM gatecast_gateway_streams WHERE gateway_id = $1) AND "offset" IN (SELECT value FROM json_each($2))
ORDER BY "offset", replica

-- name: deliveries
-- The newest rows about one event. Reading, sending and confirming are less than 5,000 events apart.
SELECT * FROM (
    SELECT * FROM gatecast_passages
    WHERE log_id = (SELECT log_id FROM gatecast_gateway_streams WHERE gateway_id = $1) AND through >= $2 AND through < $2 + 5000
      AND ($2 > picked_up_after AND $2 <= picked_up_through OR $2 > sent_after AND $2 <= sent_through
           OR $2 > confirmed_after AND $2 <= confirmed_through)
    ORDER BY number DESC LIMIT 60)
ORDER BY number

-- name: of_many
-- $1 is a list of [gateway, offset].
SELECT s.gateway_id, o."offset", o.replica, o.kind, o.reason, o.recorded_at
FROM json_each($1) AS wanted
    CROSS JOIN gatecast_gateway_streams AS s ON s.gateway_id = json_extract(wanted.value, '$[0]')
    CROSS JOIN gatecast_outcomes AS o ON o.log_id = s.log_id AND o."offset" = json_extract(wanted.value, '$[1]')
WHERE o.replica IN (SELECT i.replica FROM gatecast_outcomes AS i
                    WHERE i.log_id = s.log_id AND i."offset" = json_extract(wanted.value, '$[1]')
                    ORDER BY i.replica LIMIT 100)
ORDER BY o.recorded_at, s.gateway_id, o."offset", o.replica
