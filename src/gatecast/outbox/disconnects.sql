-- Understood by PostgreSQL and SQLite alike.

-- name: count
-- The lock of the row is held until the transaction ends, so that numbers follow commits.
UPDATE gatecast_outbox_disconnected SET number = number + 1

-- name: note
INSERT INTO gatecast_outbox_disconnects (number, token_id, gateway_id)
SELECT number, $1, $2 FROM gatecast_outbox_disconnected

-- name: forget
DELETE FROM gatecast_outbox_disconnects
WHERE number <= (SELECT number - $1 FROM gatecast_outbox_disconnected)

-- name: since
-- One row at least: the last number, with what has come after $1 beside it.
SELECT c.number AS last, d.number, d.token_id, d.gateway_id
FROM gatecast_outbox_disconnected AS c LEFT JOIN gatecast_outbox_disconnects AS d ON d.number > $1
ORDER BY d.number
