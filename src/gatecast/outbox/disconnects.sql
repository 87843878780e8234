-- Understood by PostgreSQL and SQLite alike.

-- name: count
-- The lock of the row is held until the transaction ends, so that numbers follow commits.
UPDATE gatecast_outbox_disconnected SET number = number + 1

-- name: note
INSERT INTO gatecast_outbox_disconnects (number, token_id, gateway_id, name)
SELECT number, $1, $2, $3 FROM gatecast_outbox_disconnected

-- name: forget
DELETE FROM gatecast_outbox_disconnects
WHERE number <= (SELECT number - $1 FROM gatecast_outbox_disconnected)

-- name: from
-- One row at least: the last number, with its own row, and all from $1 on, beside it.
SELECT c.number AS last, d.number, d.name, d.token_id, d.gateway_id
FROM gatecast_outbox_disconnected AS c
    LEFT JOIN gatecast_outbox_disconnects AS d ON d.number = c.number OR d.number >= CAST($1 AS bigint)
ORDER BY d.number
