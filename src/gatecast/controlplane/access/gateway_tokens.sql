-- name: insert_token
INSERT INTO gatecast_gateway_tokens (id, gateway_id, prefix, digest, created_at) VALUES ($1, $2, $3, $4, now())

-- name: tokens
SELECT id, prefix, created_at, last_used_at, revoked_at FROM gatecast_gateway_tokens
WHERE gateway_id = $1 ORDER BY created_at, id

-- name: revoke_token
UPDATE gatecast_gateway_tokens SET revoked_at = now() WHERE gateway_id = $1 AND id = $2 AND revoked_at IS NULL

-- name: forget_revoked_tokens
-- All but the newest few.
DELETE FROM gatecast_gateway_tokens WHERE gateway_id = $1 AND revoked_at IS NOT NULL AND id NOT IN (
    SELECT id FROM gatecast_gateway_tokens WHERE gateway_id = $1 AND revoked_at IS NOT NULL
    ORDER BY revoked_at DESC, id LIMIT $2)

-- name: token_owners
SELECT t.id AS token_id, t.digest, g.id AS gateway_id, g.organization, g.connection_policy
FROM gatecast_gateway_tokens AS t JOIN gatecast_gateways AS g ON g.id = t.gateway_id
WHERE t.digest IN (SELECT key FROM json_each($1)) AND t.revoked_at IS NULL

-- name: confirm_uses
-- A locked token, perhaps one that is being revoked, is left out; the caller that needs it confirms it alone.
UPDATE gatecast_gateway_tokens SET last_used_at = now() WHERE id IN (
    SELECT id FROM gatecast_gateway_tokens WHERE id IN (SELECT key FROM json_each($1)) AND revoked_at IS NULL
    ORDER BY id FOR NO KEY UPDATE SKIP LOCKED)

-- name: confirm_use
-- Waits for a revocation that is under way, and then finds the token revoked.
UPDATE gatecast_gateway_tokens SET last_used_at = now() WHERE id = $1 AND revoked_at IS NULL
