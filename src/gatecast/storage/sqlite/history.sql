-- name: last_change
SELECT last_change, change_token FROM gatecast_epoch

-- name: epoch
SELECT current FROM gatecast_epoch

-- name: renew
UPDATE gatecast_epoch SET current = $2, begun_at = $3, last_change = max(last_change, $4) + 1, change_token = $5 WHERE current = $1

-- name: touch_every_stream
-- After a restore, numbers of changes may have gone back: everybody looks at everything once.
UPDATE gatecast_gateway_streams SET changed_seq = (SELECT last_change FROM gatecast_epoch)

-- name: forget_connections
-- Every connection of the old history is ended and comes again. A restore may even have brought back connections that
-- ended long ago, whose pods live: they would hold positions back for ever.
DELETE FROM gatecast_connections
