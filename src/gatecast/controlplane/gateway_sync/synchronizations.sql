-- name: begin_synchronization
-- The first call of a connection.
INSERT INTO gatecast_synchronizations (gateway_id, number, began_at, called_at, finished_at, listed, secrets_read)
VALUES ($1, 1, now(), now(), NULL, false, false)
ON CONFLICT (gateway_id) DO UPDATE SET number = gatecast_synchronizations.number + 1, began_at = now(),
    called_at = now(), finished_at = NULL, listed = false, secrets_read = false

-- name: note_call
UPDATE gatecast_synchronizations SET called_at = now() WHERE gateway_id = $1

-- name: note_secrets_read
UPDATE gatecast_synchronizations SET secrets_read = true WHERE gateway_id = $1

-- name: note_listed
UPDATE gatecast_synchronizations SET called_at = now(), listed = true WHERE gateway_id = $1

-- name: finish_synchronization
UPDATE gatecast_synchronizations SET called_at = now(), finished_at = now() WHERE gateway_id = $1

-- name: synchronizations
SELECT gateway_id, number, began_at, called_at, finished_at, listed, secrets_read, began_anew, now() AS at
FROM gatecast_synchronizations WHERE gateway_id IN (SELECT key FROM json_each($1))

-- name: note_delivered
-- A gateway without data has read everything in this one.
UPDATE gatecast_synchronizations SET delivered = number, began_anew = false WHERE gateway_id = $1 AND number = $2

-- name: forget_new_database
UPDATE gatecast_synchronizations SET began_anew = false WHERE gateway_id = $1
