-- name: insert_artifact
INSERT INTO gatecast_artifacts (id, organization, kind, handle, name, artifact_version, content_id, version,
                                created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, 1, now(), now())

-- name: artifact
SELECT a.id, a.organization, a.kind, a.handle, a.content_id, a.version, a.created_at, a.updated_at,
       c.document, c.credentials
FROM gatecast_artifacts AS a JOIN gatecast_contents AS c ON c.id = a.content_id
WHERE a.organization = $1 AND a.kind = $2 AND a.id = $3

-- name: artifacts
-- One page, in the order of handles.
SELECT a.id, a.organization, a.kind, a.handle, a.content_id, a.version, a.created_at, a.updated_at,
       c.document, c.credentials
FROM gatecast_artifacts AS a JOIN gatecast_contents AS c ON c.id = a.content_id
WHERE a.organization = $1 AND a.kind = $2 AND a.handle > $3 ORDER BY a.handle LIMIT $4

-- name: artifact_in_revision
-- An artifact as it was when it had this content.
SELECT a.id, a.organization, a.kind, a.handle, c.id AS content_id, a.version, a.created_at, a.updated_at,
       c.document, c.credentials
FROM gatecast_artifacts AS a JOIN gatecast_contents AS c ON c.artifact_id = a.id
WHERE a.id = $1 AND c.id = $2

-- name: artifact_on_gateway
-- An artifact in the revision that a gateway was told of last, running or not.
SELECT a.id, a.organization, a.kind, a.handle, c.id AS content_id, a.version, a.created_at, a.updated_at,
       c.document, c.credentials
FROM gatecast_placements AS p
JOIN gatecast_deployments AS d ON d.id = p.deployment_id
JOIN gatecast_artifacts AS a ON a.id = p.artifact_id
JOIN gatecast_contents AS c ON c.id = d.content_id
WHERE p.artifact_id = $1 AND p.gateway_id = $2

-- name: lock_artifact
-- An update is the lock that every database knows.
UPDATE gatecast_artifacts SET version = version WHERE organization = $1 AND kind = $2 AND id = $3

-- name: update_artifact
UPDATE gatecast_artifacts SET name = $2, artifact_version = $3, content_id = $4, version = version + 1,
    updated_at = now()
WHERE id = $1

-- name: delete_artifact
DELETE FROM gatecast_artifacts WHERE id = $1

-- name: handle_taken
SELECT id FROM gatecast_artifacts WHERE organization = $1 AND kind = $2 AND handle = $3

-- name: artifact_name_taken
SELECT id FROM gatecast_artifacts
WHERE organization = $1 AND kind = $2 AND name = $3 AND artifact_version = $4 AND id <> $5

-- name: name_on_gateway
-- Who has a name on a gateway, running or not: whatever was told last and, where that failed, what came before it.
SELECT a.handle FROM gatecast_placements AS p
JOIN gatecast_artifacts AS a ON a.id = p.artifact_id
JOIN gatecast_deployments AS told ON told.id = p.deployment_id
JOIN gatecast_deployments AS d ON d.id = told.id OR (told.state = 'FAILED' AND d.id = p.held)
JOIN gatecast_contents AS c ON c.id = d.content_id
WHERE p.gateway_id = $1 AND p.kind = $2 AND c.name = $3 AND c.artifact_version = $4 AND p.desired <> 'DELETED'
  AND p.artifact_id <> $5

-- name: dependants
-- Handles of the proxies whose document names a provider.
SELECT a.handle FROM gatecast_content_needs AS n JOIN gatecast_artifacts AS a ON a.content_id = n.content_id
WHERE n.provider_id = $1 ORDER BY a.handle

-- name: dependants_on_gateways
-- Which proxies may need a provider where: a gateway may have any revision from the one that it said it has up to the
-- newest, running or not. It would refuse to delete the provider, and remove its keys all the same.
SELECT DISTINCT p.gateway_id, p.artifact_id, a.handle, p.desired FROM gatecast_content_needs AS n
JOIN gatecast_deployments AS d ON d.content_id = n.content_id
JOIN gatecast_artifacts AS a ON a.id = d.artifact_id
JOIN gatecast_placements AS p ON p.artifact_id = d.artifact_id AND p.gateway_id = d.gateway_id
LEFT JOIN gatecast_deployments AS h ON h.id = p.held
WHERE n.provider_id = $1 AND p.desired <> 'DELETED' AND d.revision >= coalesce(h.revision, 0)
ORDER BY p.gateway_id, p.artifact_id

-- name: insert_need
INSERT INTO gatecast_content_needs (content_id, provider_id) VALUES ($1, $2)

-- name: insert_secret
INSERT INTO gatecast_secrets (handle, artifact_id, value, created_at) VALUES ($1, $2, $3, now())

-- name: insert_content
INSERT INTO gatecast_contents (id, artifact_id, name, artifact_version, document, credentials, content)
VALUES ($1, $2, $3, $4, $5, $6, $7)

-- name: insert_content_secret
INSERT INTO gatecast_content_secrets (content_id, handle) VALUES ($1, $2)

-- name: any_content
-- Something that only the right key opens.
SELECT id, content FROM gatecast_contents LIMIT 1

-- name: forget_contents
-- Those that neither the artifact nor a deployment refers to any more.
DELETE FROM gatecast_contents WHERE artifact_id = $1
    AND id <> (SELECT a.content_id FROM gatecast_artifacts AS a WHERE a.id = $1)
    AND NOT EXISTS (SELECT 1 FROM gatecast_deployments AS d WHERE d.content_id = gatecast_contents.id)

-- name: forget_secrets
DELETE FROM gatecast_secrets WHERE artifact_id = $1 AND NOT EXISTS (
    SELECT 1 FROM gatecast_content_secrets AS s WHERE s.handle = gatecast_secrets.handle)

-- name: forget_deployments
-- All but the newest revisions on one gateway, and the one that it said it has.
DELETE FROM gatecast_deployments WHERE artifact_id = $1 AND gateway_id = $2 AND revision <= $3
    AND id NOT IN (SELECT p.held FROM gatecast_placements AS p WHERE p.artifact_id = $1 AND p.gateway_id = $2)
