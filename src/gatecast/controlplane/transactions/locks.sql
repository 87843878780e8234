-- name: lock_names
-- Makes the organization's row and locks it: nobody else names a gateway until this transaction ends.
INSERT INTO gatecast_organizations (id) VALUES ($1) ON CONFLICT (id) DO UPDATE SET id = excluded.id

-- name: lock_gateway
-- An update is the lock that every database knows: the second writer waits, and then sees what the first one did.
UPDATE gatecast_gateways SET version = version WHERE organization = $1 AND id = $2

-- name: lock_gateways
-- In one order, so that no two changes deadlock; the second writer sees what the first one did.
SELECT id FROM gatecast_gateways WHERE organization = $1 AND id IN (SELECT key FROM json_each($2))
ORDER BY id FOR NO KEY UPDATE
