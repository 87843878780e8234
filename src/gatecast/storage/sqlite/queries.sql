-- name: look_up
-- For each of these events ($1, a list of [gateway, id]), by its number in the list: the log of its gateway (NULL: it
-- has none), the head of the log, and the event's offset if it is in the log already. The joins keep their order: one
-- look into each index for each event, however large the log is.
SELECT wanted.key, s.log_id, s.head, e."offset"
FROM json_each($1) AS wanted
    LEFT JOIN gatecast_gateway_streams AS s ON s.gateway_id = json_extract(wanted.value, '$[0]')
    LEFT JOIN gatecast_events AS e ON e.log_id = s.log_id AND e.event_id = json_extract(wanted.value, '$[1]')

-- name: find
-- Where those of these events ($2, a list of ids) are that are in the log of the gateway $1. CROSS JOIN keeps the order.
SELECT e.event_id, e."offset"
FROM gatecast_gateway_streams AS s CROSS JOIN json_each($2) AS wanted
    CROSS JOIN gatecast_events AS e ON e.log_id = s.log_id AND e.event_id = wanted.value
WHERE s.gateway_id = $1

-- name: next_change
-- The number of this transaction's change. Nobody else gets it, or a later one, before this transaction has ended.
UPDATE gatecast_epoch SET last_change = last_change + 1, change_token = $1 RETURNING last_change

-- name: insert_event
INSERT INTO gatecast_events (log_id, "offset", event_id, type, action, entity_type, entity_id, size, originated_at,
                    recorded_at, trace_parent, payload, changed_seq)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)

-- name: move_head
UPDATE gatecast_gateway_streams SET head = $1, last_event_id = $2, changed_seq = $3 WHERE gateway_id = $4

-- name: epoch
SELECT current, last_change, change_token FROM gatecast_epoch

-- name: changed_since
SELECT gateway_id, head FROM gatecast_gateway_streams WHERE changed_seq > $1

-- name: streams
SELECT gateway_id, log_id, head, last_event_id, trimmed_through FROM gatecast_gateway_streams
WHERE gateway_id IN (SELECT value FROM json_each($1))

-- name: events_behind
SELECT "offset", event_id, type, action, entity_type, entity_id, size, originated_at, recorded_at, trace_parent, payload
FROM gatecast_events WHERE log_id = (SELECT log_id FROM gatecast_gateway_streams WHERE gateway_id = $1) AND "offset" > $2
ORDER BY "offset" LIMIT $3

-- name: places
-- Backwards from the end of each log to the first event that was recorded up to the marker ($2).
SELECT s.gateway_id, s.log_id, e."offset", s.trimmed_through, s.trimmed_seq > $2
FROM gatecast_gateway_streams AS s LEFT JOIN gatecast_events AS e ON e.log_id = s.log_id AND e."offset" = (
    SELECT i."offset" FROM gatecast_events AS i WHERE i.log_id = s.log_id AND i.changed_seq <= $2
    ORDER BY i."offset" DESC LIMIT 1)
WHERE s.gateway_id IN (SELECT value FROM json_each($1))

-- name: contradicted
-- How many of these events ($1, a list of [gateway, log, offset, id]) this history lacks there. An event that retention
-- removed contradicts nothing, nor does one of a gateway that was deleted or registered again: a later log has a higher
-- number. Without a number, the log is the one that the gateway has.
SELECT count(*)
FROM json_each($1) AS r
    CROSS JOIN gatecast_gateway_streams AS s ON s.gateway_id = json_extract(r.value, '$[0]')
    LEFT JOIN gatecast_events AS e ON e.log_id = s.log_id AND e."offset" = json_extract(r.value, '$[2]')
WHERE s.log_id < json_extract(r.value, '$[1]')
   OR s.log_id = coalesce(json_extract(r.value, '$[1]'), s.log_id) AND (
        s.head < json_extract(r.value, '$[2]')
        OR json_extract(r.value, '$[3]') <> coalesce(
            e.event_id, CASE WHEN s.head = json_extract(r.value, '$[2]') THEN s.last_event_id END))

-- name: register
-- The number of the change ($2) also names the log: no other log ever gets it.
INSERT INTO gatecast_gateway_streams (gateway_id, log_id, changed_seq, registered_in)
SELECT $1, $2, $2, current FROM gatecast_epoch WHERE true
ON CONFLICT (gateway_id) DO NOTHING

-- name: claim
INSERT INTO gatecast_claims (owner, token) VALUES ($1, $2) ON CONFLICT (owner) DO UPDATE SET token = excluded.token

-- name: is_claimed
SELECT 1 FROM gatecast_claims WHERE owner = $1 AND token = $2

-- name: identity
SELECT log FROM gatecast_identity

-- name: note_forgotten_log
-- Its events and outcomes may be so many that they would keep everybody from writing: `trim` removes them in chunks.
-- If a log is named ($2), only that one.
INSERT INTO gatecast_forgotten_logs (log_id)
SELECT log_id FROM gatecast_gateway_streams WHERE gateway_id = $1 AND log_id = coalesce($2, log_id)

-- name: forget_stream
DELETE FROM gatecast_gateway_streams WHERE gateway_id = $1

-- name: forget_positions
-- Named, although the schema cascades: a caller's own connection may not enforce references.
DELETE FROM gatecast_cursors WHERE gateway_id = $1

-- name: dismiss_gateway
UPDATE gatecast_connections SET dismissal = 'gateway-deleted' WHERE gateway_id = $1
