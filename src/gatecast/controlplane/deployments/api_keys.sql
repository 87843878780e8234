-- name: last_key_version
SELECT max(CASE WHEN renewed_at > updated_at THEN renewed_at ELSE updated_at END) AS version
FROM gatecast_api_keys WHERE artifact_id = $1

-- name: active_names
-- The names of the active keys of artifacts.
SELECT k.artifact_id, a.kind, k.name FROM gatecast_api_keys AS k JOIN gatecast_artifacts AS a ON a.id = k.artifact_id
WHERE k.artifact_id IN (SELECT key FROM json_each($1)) AND k.revoked_at IS NULL ORDER BY k.name

-- name: insert_key
INSERT INTO gatecast_api_keys (id, artifact_id, name, mask, sha256, expires_at, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $7)

-- name: rotate_key
UPDATE gatecast_api_keys SET mask = $2, sha256 = $3, expires_at = $4, updated_at = $5 WHERE id = $1

-- name: revoke_key
UPDATE gatecast_api_keys SET revoked_at = $2, updated_at = $2 WHERE id = $1

-- name: renew_key
UPDATE gatecast_api_keys SET renewed_at = $2 WHERE id = $1

-- name: expired_keys
-- Expired keys whose end was not published to gateways yet.
SELECT k.id, k.expires_at, a.organization, a.kind, k.artifact_id, k.name
FROM gatecast_api_keys AS k JOIN gatecast_artifacts AS a ON a.id = k.artifact_id
WHERE k.revoked_at IS NULL AND k.expires_at <= $1 AND k.ended_at < k.updated_at
    AND (k.expires_at > $2 OR (k.expires_at = $2 AND k.id > $3))
ORDER BY k.expires_at, k.id LIMIT $4

-- name: end_key
UPDATE gatecast_api_keys SET updated_at = $2, ended_at = $2 WHERE id = $1

-- name: forget_namesakes
-- Of the revoked keys with one name, the last is enough.
DELETE FROM gatecast_api_keys WHERE artifact_id = $1 AND revoked_at IS NOT NULL AND EXISTS (
    SELECT 1 FROM gatecast_api_keys AS later WHERE later.artifact_id = $1 AND later.name = gatecast_api_keys.name
        AND later.updated_at > gatecast_api_keys.updated_at)

-- name: forget_revoked_keys
DELETE FROM gatecast_api_keys WHERE artifact_id = $1 AND revoked_at IS NOT NULL AND id NOT IN (
    SELECT id FROM gatecast_api_keys WHERE artifact_id = $1 AND revoked_at IS NOT NULL
    ORDER BY revoked_at DESC, id LIMIT $2)
