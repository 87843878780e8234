-- Understood by PostgreSQL and SQLite alike. For SQLite, names of tables of the event log begin with `gatecast_`.

-- name: forwarder
SELECT pod_id, term, beats FROM gatecast_outbox_forwarder

-- name: take
-- Of several that saw the same, one succeeds.
UPDATE gatecast_outbox_forwarder SET pod_id = $1, term = $2, beats = 0 WHERE term = $3 AND beats = $4

-- name: beat
UPDATE gatecast_outbox_forwarder SET beats = beats + 1 WHERE term = $1

-- name: give_up
UPDATE gatecast_outbox_forwarder SET pod_id = '' WHERE term = $1

-- name: hold_term
-- Nobody can take over before the transaction ends.
SELECT term FROM gatecast_outbox_forwarder WHERE term = $1 FOR NO KEY UPDATE

-- name: waiting
-- What is to be done, all from one instant: the gateways with entries (`head` is past `forwarded`), those that were
-- registered (`lane` is not their log in the outbox, `log_id`) and those that were deleted (they have no `log_id`).
SELECT s.gateway_id, s.log_id, s.head, g.lane, g.forwarded, g.log_epoch, g.log_head, g.refused, g.reason
FROM gatecast.gateway_streams s LEFT JOIN gatecast_outbox_gateways g ON g.gateway_id = s.gateway_id
WHERE g.lane IS NULL OR g.lane <> s.log_id OR s.head > g.forwarded
UNION ALL
SELECT g.gateway_id, NULL, 0, g.lane, g.forwarded, g.log_epoch, g.log_head, g.refused, g.reason
FROM gatecast_outbox_gateways g
WHERE NOT EXISTS (SELECT 1 FROM gatecast.gateway_streams s WHERE s.gateway_id = g.gateway_id)

-- name: lane_names
SELECT gateway_id FROM gatecast_outbox_gateways

-- name: lane
SELECT gateway_id, lane, forwarded, log_epoch, log_head, refused, reason FROM gatecast_outbox_gateways
WHERE gateway_id = $1

-- name: refused
SELECT gateway_id, lane, forwarded, log_epoch, log_head, refused, reason FROM gatecast_outbox_gateways
WHERE refused > 0 ORDER BY gateway_id

-- name: save
INSERT INTO gatecast_outbox_gateways (gateway_id, lane, forwarded, log_epoch, log_head, refused, reason)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (gateway_id) DO UPDATE SET lane = excluded.lane, forwarded = excluded.forwarded,
    log_epoch = excluded.log_epoch, log_head = excluded.log_head, refused = excluded.refused, reason = excluded.reason

-- name: drop
DELETE FROM gatecast_outbox_gateways WHERE gateway_id = $1

-- name: try_again
UPDATE gatecast_outbox_gateways SET refused = 0, reason = '' WHERE gateway_id = $1 AND lane = $2 AND refused = $3

-- name: leave_out
UPDATE gatecast_outbox_gateways SET forwarded = refused, refused = 0, reason = ''
WHERE gateway_id = $1 AND lane = $2 AND refused = $3

-- name: confirm
-- What was forwarded counts as confirmed in the outbox, so that its retention removes it.
INSERT INTO gatecast.cursors (gateway_id, replica, epoch, sent, confirmed, updated_at)
SELECT s.gateway_id, 'outbox', e.current, $3, $3, now() FROM gatecast.gateway_streams s CROSS JOIN gatecast.epoch e
WHERE s.gateway_id = $1 AND s.log_id = $2
ON CONFLICT (gateway_id, replica) DO UPDATE SET epoch = excluded.epoch, sent = excluded.sent,
    confirmed = excluded.confirmed, updated_at = excluded.updated_at
