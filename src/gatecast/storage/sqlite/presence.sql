-- name: pod
SELECT lease_until <= now() FROM gatecast_pods WHERE pod_id = $1

-- name: renew_lease
INSERT INTO gatecast_pods (pod_id, lease_until, life) VALUES ($1, $2, $3)
ON CONFLICT (pod_id) DO UPDATE SET lease_until = excluded.lease_until RETURNING life

-- name: ended_with_their_pods
-- $1 is a live pod. A pod without a row was forgotten, perhaps just when a gateway connected to it.
SELECT o.connection_id, o.gateway_id, o.replica FROM gatecast_connections AS o LEFT JOIN gatecast_pods AS p ON p.pod_id = o.pod_id
WHERE NOT o.released AND o.pod_id <> $1 AND (p.pod_id IS NULL OR p.lease_until <= now())

-- name: release
UPDATE gatecast_connections SET released = $2 WHERE connection_id IN (SELECT value FROM json_each($1))

-- name: forget_connections_of_dead_pods
DELETE FROM gatecast_connections WHERE pod_id IN (SELECT pod_id FROM gatecast_pods WHERE lease_until < $1)

-- name: forget_dead_pods
DELETE FROM gatecast_pods WHERE lease_until < $1

-- name: remove_pod
DELETE FROM gatecast_pods WHERE pod_id = $1

-- name: standing
SELECT epoch.current AS epoch, s.head, s.trimmed_through, s.registered_in, c.epoch AS cursor_epoch, c.confirmed,
       c.resync_reason
FROM gatecast_gateway_streams AS s CROSS JOIN gatecast_epoch AS epoch
    LEFT JOIN gatecast_cursors AS c ON c.gateway_id = s.gateway_id AND c.replica = $2
WHERE s.gateway_id = $1

-- name: place_to_connect
-- The present epoch and the end of the log, if the gateway is registered.
SELECT epoch.current, head FROM gatecast_gateway_streams CROSS JOIN gatecast_epoch AS epoch WHERE gateway_id = $1

-- name: set_position
-- The client knows its own position best, so this also moves back; `sent` is the highest sent offset of this epoch.
INSERT INTO gatecast_cursors (gateway_id, replica, epoch, sent, confirmed, resync_reason, updated_at)
VALUES ($1, $2, $3, $4, $4, $5, now())
ON CONFLICT (gateway_id, replica) DO UPDATE
SET sent = CASE WHEN epoch = excluded.epoch THEN max(sent, excluded.sent) ELSE excluded.sent END,
    epoch = excluded.epoch, confirmed = excluded.confirmed, resync_reason = excluded.resync_reason,
    updated_at = excluded.updated_at
-- The events were lost on the way here: the replica must reconnect to learn of it.
WHERE gatecast_cursors.resync_reason IS NOT 'parked' OR excluded.resync_reason IS NOT NULL

-- name: hold_back
-- A slower live connection that shares the position is not passed; $3 is the new connection.
WITH other AS (
    SELECT min(o.confirmed) AS slowest
    FROM gatecast_connections AS o
    WHERE o.gateway_id = $1 AND o.replica = $2 AND o.connection_id <> $3 AND NOT o.released AND o.dismissal IS NULL
)
UPDATE gatecast_cursors SET confirmed = other.slowest FROM other
WHERE gateway_id = $1 AND replica = $2 AND confirmed > other.slowest

-- name: supersede
UPDATE gatecast_connections SET dismissal = 'superseded'
WHERE gateway_id = $1 AND replica = $2 AND connection_id <> $3 AND dismissal IS NULL

-- name: insert_connection
-- Connecting again with the same id (its first answer was lost) replaces the row.
INSERT OR REPLACE INTO gatecast_connections (connection_id, gateway_id, replica, pod_id, protocol, remote, token_id, connected_at,
                                    sent, confirmed)
VALUES ($1, $2, $3, $4, $5, $6, $7, now(), $8, $8)

-- name: advance_connection
-- A connection that reports is alive, even if its pod's lease ran out.
UPDATE gatecast_connections SET sent = max(sent, $3), confirmed = max(confirmed, $4), released = false
WHERE connection_id = $1 AND $2 = (SELECT current FROM gatecast_epoch)

-- name: insert_passages
-- Not for a connection told to close: its gateway was perhaps deleted and registered again under the same id.
INSERT INTO gatecast_passages (log_id, through, replica, connection_id, pod_id,
                      picked_up_after, picked_up_through, picked_up_first, picked_up_last,
                      sent_after, sent_through, sent_first, sent_last,
                      confirmed_after, confirmed_through, confirmed_first, confirmed_last)
SELECT s.log_id, max($4, $8, $12), o.replica, o.connection_id, o.pod_id, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14
FROM gatecast_connections AS o CROSS JOIN gatecast_gateway_streams AS s ON s.gateway_id = o.gateway_id
WHERE o.connection_id = $1 AND $2 = (SELECT current FROM gatecast_epoch) AND o.dismissal IS NULL

-- name: thin_passages
-- Keep the newest 100: a gateway that reconnects again and again without progress would fill the table.
DELETE FROM gatecast_passages WHERE number IN (
    SELECT t.number FROM gatecast_gateway_streams AS s CROSS JOIN gatecast_passages AS t
        ON t.log_id = s.log_id AND t.through > $3 AND t.through <= $3 + 1000
    WHERE s.gateway_id = $1 AND t.replica = $2 ORDER BY t.number DESC LIMIT -1 OFFSET 100)

-- name: advance_positions
-- Each of these positions ($1, a list of [gateway, replica]) moves to what its slowest connection has confirmed. Those
-- of a dead pod count until they are released. A connection told to close no longer counts: its events were perhaps
-- sent again since, or its gateway was deleted and registered again under the same id.
WITH reached AS (
    SELECT o.gateway_id, o.replica, max(o.sent) AS sent, min(o.confirmed) AS confirmed
    FROM gatecast_connections AS o
    WHERE (o.gateway_id, o.replica) IN (
            SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each($1))
      AND NOT o.released AND o.dismissal IS NULL
    GROUP BY o.gateway_id, o.replica
)
UPDATE gatecast_cursors
SET sent = max(gatecast_cursors.sent, reached.sent), confirmed = max(gatecast_cursors.confirmed, reached.confirmed), updated_at = now()
FROM reached
WHERE gatecast_cursors.gateway_id = reached.gateway_id AND gatecast_cursors.replica = reached.replica
  AND gatecast_cursors.epoch = (SELECT current FROM gatecast_epoch)
  AND (gatecast_cursors.confirmed < reached.confirmed OR gatecast_cursors.sent < reached.sent)

-- name: connections_of_pod
SELECT connection_id, gateway_id, replica FROM gatecast_connections WHERE pod_id = $1

-- name: dismiss_older
-- These connections ($1) have ended. A connection that ended before it confirmed its whole log may have received events
-- again that an older connection had confirmed. Then the gateway also needs the later events again, so older
-- connections are closed and continue from the position.
UPDATE gatecast_connections SET dismissal = 'restarting' WHERE number IN (
    SELECT o.number FROM gatecast_connections AS ended JOIN gatecast_gateway_streams AS s ON s.gateway_id = ended.gateway_id
        JOIN gatecast_connections AS o ON o.gateway_id = ended.gateway_id AND o.replica = ended.replica
    WHERE ended.connection_id IN (SELECT value FROM json_each($1)) AND ended.confirmed < s.head
      AND o.number < ended.number AND o.dismissal IS NULL)

-- name: remove_connections
DELETE FROM gatecast_connections WHERE connection_id IN (SELECT value FROM json_each($1))

-- name: dismissals
SELECT connection_id, dismissal FROM gatecast_connections WHERE pod_id = $1 AND dismissal IS NOT NULL

-- name: dismiss_token
UPDATE gatecast_connections SET dismissal = 'token-revoked' WHERE token_id = $1

-- name: resynchronized
UPDATE gatecast_cursors SET resync_reason = NULL WHERE gateway_id = $1 AND replica = $2 AND resync_reason = $3
  AND ($4 IS NULL OR EXISTS (
      SELECT 1 FROM gatecast_connections o WHERE o.connection_id = $4 AND o.dismissal IS NULL))

-- name: status
-- A position of an older epoch has confirmed nothing of this one.
WITH position AS (
    SELECT c.gateway_id, max(c.updated_at) AS updated_at,
           coalesce(max(c.sent) FILTER (WHERE c.epoch = epoch.current), 0) AS sent,
           coalesce(min(c.confirmed) FILTER (WHERE c.epoch = epoch.current), 0) AS confirmed,
           max(CASE WHEN c.epoch = epoch.current THEN c.resync_reason ELSE 'epoch' END) AS resync_reason
    FROM gatecast_cursors AS c CROSS JOIN gatecast_epoch AS epoch
    WHERE c.gateway_id IN (SELECT value FROM json_each($1)) GROUP BY c.gateway_id
)
SELECT s.gateway_id, epoch.current, s.head, s.trimmed_through, coalesce(p.sent, 0), coalesce(p.confirmed, 0),
       p.updated_at, p.resync_reason,
       (SELECT e.recorded_at FROM gatecast_events AS e
        WHERE e.log_id = s.log_id AND e."offset" > coalesce(p.confirmed, 0)
        ORDER BY e."offset" LIMIT 1)
FROM gatecast_gateway_streams AS s CROSS JOIN gatecast_epoch AS epoch LEFT JOIN position AS p ON p.gateway_id = s.gateway_id
WHERE s.gateway_id IN (SELECT value FROM json_each($1))

-- name: live_connections
SELECT c.gateway_id, c.connection_id, c.pod_id, c.replica, c.protocol, c.remote, c.connected_at,
       c.sent AS connection_sent, c.confirmed AS connection_confirmed
FROM gatecast_connections AS c JOIN gatecast_pods AS p ON p.pod_id = c.pod_id AND p.lease_until > now()
WHERE c.gateway_id IN (SELECT value FROM json_each($1)) AND c.dismissal IS NULL
ORDER BY c.connected_at, c.connection_id

-- name: describe_pod
UPDATE gatecast_pods SET version = $2, started_at = now() WHERE pod_id = $1

-- name: pods
SELECT pod_id, lease_until, version, started_at FROM gatecast_pods WHERE lease_until > $1 ORDER BY pod_id

-- name: dismiss_connection
UPDATE gatecast_connections SET dismissal = 'restarting' WHERE gateway_id = $1 AND connection_id = $2 AND dismissal IS NULL
