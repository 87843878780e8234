-- name: insert_admin_token
INSERT INTO gatecast_admin_tokens (id, organization, digest, role, created_at) VALUES ($1, $2, $3, $4, now())
ON CONFLICT DO NOTHING

-- name: admin_tokens
SELECT id FROM gatecast_admin_tokens LIMIT 1

-- name: admin_token
SELECT id, organization, digest, role FROM gatecast_admin_tokens WHERE digest = $1

-- name: all_admin_tokens
SELECT id, organization, role, created_at FROM gatecast_admin_tokens ORDER BY created_at, id

-- name: delete_admin_token
DELETE FROM gatecast_admin_tokens WHERE id = $1
