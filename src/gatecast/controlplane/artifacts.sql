-- name: insert_artifact
INSERT INTO gatecast_artifacts (id, organization, kind, handle, name, artifact_version, document, credentials,
                                content_id, version, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1, now(), now())

-- name: artifact
SELECT id, organization, kind, handle, document, credentials, content_id, version, created_at, updated_at
FROM gatecast_artifacts WHERE organization = $1 AND kind = $2 AND id = $3

-- name: artifacts
-- One page, in the order of handles.
SELECT id, organization, kind, handle, document, credentials, content_id, version, created_at, updated_at
FROM gatecast_artifacts WHERE organization = $1 AND kind = $2 AND handle > $3 ORDER BY handle LIMIT $4

-- name: lock_artifact
-- An update is the lock that every database knows.
UPDATE gatecast_artifacts SET version = version WHERE organization = $1 AND kind = $2 AND id = $3

-- name: update_artifact
UPDATE gatecast_artifacts SET name = $2, artifact_version = $3, document = $4, credentials = $5, content_id = $6,
    version = version + 1, updated_at = now()
WHERE id = $1

-- name: delete_artifact
DELETE FROM gatecast_artifacts WHERE id = $1

-- name: handle_taken
SELECT id FROM gatecast_artifacts WHERE organization = $1 AND kind = $2 AND handle = $3

-- name: artifact_name_taken
SELECT id FROM gatecast_artifacts
WHERE organization = $1 AND kind = $2 AND name = $3 AND artifact_version = $4 AND id <> $5

-- name: insert_need
INSERT INTO gatecast_artifact_needs (artifact_id, provider_id) VALUES ($1, $2)

-- name: delete_needs
DELETE FROM gatecast_artifact_needs WHERE artifact_id = $1

-- name: needs
SELECT provider_id FROM gatecast_artifact_needs WHERE artifact_id = $1 ORDER BY provider_id

-- name: dependants
-- The proxies that need a provider.
SELECT a.id, a.organization, a.kind, a.handle, a.document, a.credentials, a.content_id, a.version, a.created_at,
       a.updated_at
FROM gatecast_artifact_needs AS n JOIN gatecast_artifacts AS a ON a.id = n.artifact_id
WHERE n.provider_id = $1 ORDER BY a.id

-- name: dependants_on_gateway
-- Handles of the proxies that run on a gateway and need a provider.
SELECT a.handle FROM gatecast_artifact_needs AS n
JOIN gatecast_artifacts AS a ON a.id = n.artifact_id
JOIN gatecast_placements AS p ON p.artifact_id = a.id
WHERE n.provider_id = $1 AND p.gateway_id = $2 AND p.desired = 'DEPLOYED' ORDER BY a.handle

-- name: insert_secret
INSERT INTO gatecast_secrets (handle, artifact_id, value, created_at) VALUES ($1, $2, $3, now())

-- name: insert_content
INSERT INTO gatecast_contents (id, artifact_id, content) VALUES ($1, $2, $3)

-- name: insert_content_secret
INSERT INTO gatecast_content_secrets (content_id, handle) VALUES ($1, $2)

-- name: any_content
-- Something that only the right key opens.
SELECT id, content FROM gatecast_contents LIMIT 1

-- name: forget_contents
-- Those that no artifact and no deployment refers to any more.
DELETE FROM gatecast_contents WHERE artifact_id = $1 AND id <> $2
    AND NOT EXISTS (SELECT 1 FROM gatecast_deployments AS d WHERE d.content_id = gatecast_contents.id)

-- name: forget_secrets
DELETE FROM gatecast_secrets WHERE artifact_id = $1 AND NOT EXISTS (
    SELECT 1 FROM gatecast_content_secrets AS s WHERE s.handle = gatecast_secrets.handle)

-- name: forget_deployments
-- All but the newest revisions on one gateway.
DELETE FROM gatecast_deployments WHERE artifact_id = $1 AND gateway_id = $2 AND revision <= $3
