-- name: keys
SELECT id, artifact_id, name, mask, sha256, expires_at, created_at, updated_at, revoked_at, renewed_at, ended_at
FROM gatecast_api_keys WHERE artifact_id = $1 ORDER BY name, created_at, id

-- name: keys_of_artifacts
SELECT id, artifact_id, name, mask, sha256, expires_at, created_at, updated_at, revoked_at, renewed_at, ended_at
FROM gatecast_api_keys WHERE artifact_id IN (SELECT key FROM json_each($1)) ORDER BY name, created_at, id
