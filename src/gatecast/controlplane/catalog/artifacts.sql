-- name: insert_artifact
INSERT INTO gatecast_artifacts (id, organization, kind, handle, name, artifact_version, content_id, version,
                                created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, 1, now(), now())

-- name: artifact
SELECT a.id, a.organization, a.kind, a.handle, a.content_id, a.version, a.created_at, a.updated_at,
       c.document, c.credentials
FROM gatecast_artifacts AS a JOIN gatecast_contents AS c ON c.id = a.content_id
WHERE a.organization = $1 AND a.kind = $2 AND a.id = $3

-- name: artifact_named
SELECT id FROM gatecast_artifacts WHERE organization = $1 AND kind = $2 AND handle = $3

-- name: exists
SELECT id FROM gatecast_artifacts WHERE organization = $1 AND kind = $2 AND id = $3

-- name: whole_artifact
-- The same with the description of its API.
SELECT a.id, a.organization, a.kind, a.handle, a.content_id, a.version, a.created_at, a.updated_at,
       c.document, c.credentials, o.id AS openapi_id, o.document AS openapi
FROM gatecast_artifacts AS a JOIN gatecast_contents AS c ON c.id = a.content_id
LEFT JOIN gatecast_openapi AS o ON o.id = c.openapi_id
WHERE a.organization = $1 AND a.kind = $2 AND a.id = $3

-- name: insert_openapi
INSERT INTO gatecast_openapi (id, artifact_id, document) VALUES ($1, $2, $3)

-- name: forget_openapi
DELETE FROM gatecast_openapi WHERE artifact_id = $1 AND id NOT IN (
    SELECT c.openapi_id FROM gatecast_contents AS c WHERE c.artifact_id = $1 AND c.openapi_id IS NOT NULL)

-- name: handles_by_id
SELECT id, handle FROM gatecast_artifacts WHERE id IN (SELECT key FROM json_each($1))

-- name: artifacts_by_id
SELECT a.id, a.organization, a.kind, a.handle, a.content_id, a.version, a.created_at, a.updated_at,
       c.document, c.credentials
FROM gatecast_artifacts AS a JOIN gatecast_contents AS c ON c.id = a.content_id
WHERE a.id IN (SELECT key FROM json_each($1))

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

-- name: contents
-- Artifacts in these revisions.
SELECT a.id, a.organization, a.kind, a.handle, c.id AS content_id, a.version, a.created_at, a.updated_at,
       c.document, c.credentials
FROM gatecast_contents AS c JOIN gatecast_artifacts AS a ON a.id = c.artifact_id
WHERE c.id IN (SELECT key FROM json_each($1))

-- name: lock_artifacts
-- In one order; whoever comes second sees what the first one did.
SELECT id, handle FROM gatecast_artifacts
WHERE organization = $1 AND kind = $2 AND id IN (SELECT key FROM json_each($3)) ORDER BY id FOR NO KEY UPDATE

-- name: update_artifact
UPDATE gatecast_artifacts SET name = $2, artifact_version = $3, content_id = $4, version = version + 1,
    updated_at = now()
WHERE id = $1

-- name: note_deleted
INSERT INTO gatecast_deleted_artifacts (artifact_id, organization, kind, handle, name, deleted_at)
SELECT id, organization, kind, handle, name, now() FROM gatecast_artifacts WHERE id = $1
RETURNING deleted_at

-- name: forget_deleted
DELETE FROM gatecast_deleted_artifacts WHERE organization = $1 AND deleted_at < $2

-- name: delete_artifact
DELETE FROM gatecast_artifacts WHERE id = $1

-- name: handles
-- Whoever has a handle, or one that was derived from it.
SELECT handle FROM gatecast_artifacts
WHERE organization = $1 AND kind = $2 AND (handle = $3 OR handle LIKE $3 || '-%')

-- name: contexts
-- The same for contexts, of all kinds: a gateway serves them side by side.
SELECT DISTINCT r.context FROM gatecast_artifacts AS a JOIN gatecast_content_routes AS r ON r.content_id = a.content_id
WHERE a.organization = $1 AND a.id <> $3 AND (r.context = $2 OR r.context LIKE $2 || '-%')

-- name: artifact_name_taken
SELECT id FROM gatecast_artifacts
WHERE organization = $1 AND kind = $2 AND name = $3 AND artifact_version = $4 AND id <> $5

-- name: names_on_gateways
-- Who has, or may still have, a name: whatever a gateway may have of an artifact, from the revision that it said it has
-- up to the newest, running or not. What is not acknowledged may have failed.
SELECT p.gateway_id, a.handle, d.id AS deployment_id, p.deployment_id AS newest, p.held, newest.state
FROM gatecast_contents AS c
JOIN gatecast_deployments AS d ON d.content_id = c.id
JOIN gatecast_placements AS p ON p.artifact_id = d.artifact_id AND p.gateway_id = d.gateway_id
JOIN gatecast_artifacts AS a ON a.id = p.artifact_id
JOIN gatecast_deployments AS newest ON newest.id = p.deployment_id
LEFT JOIN gatecast_deployments AS held ON held.id = p.held
WHERE c.name = $3 AND c.artifact_version = $4 AND p.kind = $2 AND p.gateway_id IN (SELECT key FROM json_each($1))
  AND p.desired <> 'DELETED' AND p.artifact_id <> $5 AND d.revision >= coalesce(held.revision, 0)
ORDER BY p.gateway_id, a.handle

-- name: routes_on_gateways
-- Who is served, or should be, at one of these places: what was told last and, where that failed, what came before it.
SELECT p.gateway_id, p.kind, a.handle, r.host, r.context FROM gatecast_content_routes AS r
JOIN gatecast_deployments AS d ON d.content_id = r.content_id
JOIN gatecast_placements AS p ON p.artifact_id = d.artifact_id AND p.gateway_id = d.gateway_id
JOIN gatecast_artifacts AS a ON a.id = p.artifact_id
JOIN gatecast_deployments AS newest ON newest.id = p.deployment_id
WHERE r.context = $2 AND r.host IN (SELECT key FROM json_each($3))
  AND p.gateway_id IN (SELECT key FROM json_each($1)) AND p.artifact_id <> $4
  AND (d.id = newest.id OR (newest.state = 'FAILED' AND d.id = p.held))
  AND (p.desired = 'DEPLOYED' OR (p.desired = 'UNDEPLOYED' AND newest.state = 'FAILED'))
ORDER BY p.gateway_id, a.handle, r.host

-- name: clashes
-- Who else should be served where an artifact is: an older release let them.
SELECT DISTINCT mine.gateway_id, other.kind, a.handle, r.host, r.context FROM gatecast_placements AS mine
JOIN gatecast_deployments AS d ON d.id = mine.deployment_id
JOIN gatecast_content_routes AS r ON r.content_id = d.content_id
JOIN gatecast_content_routes AS same ON same.host = r.host AND same.context = r.context
JOIN gatecast_deployments AS o ON o.content_id = same.content_id AND o.gateway_id = mine.gateway_id
JOIN gatecast_placements AS other ON other.artifact_id = o.artifact_id AND other.gateway_id = o.gateway_id
    AND other.deployment_id = o.id
JOIN gatecast_artifacts AS a ON a.id = other.artifact_id
WHERE mine.artifact_id = $1 AND other.artifact_id <> $1 AND mine.desired = 'DEPLOYED' AND other.desired = 'DEPLOYED'
ORDER BY mine.gateway_id, other.kind, a.handle, r.host LIMIT $2

-- name: unrouted
-- Contents whose routes nobody has stored yet.
SELECT c.id, c.document, a.kind FROM gatecast_contents AS c JOIN gatecast_artifacts AS a ON a.id = c.artifact_id
WHERE c.routed = 0 AND c.id > $1 ORDER BY c.id LIMIT $2

-- name: insert_routes
INSERT INTO gatecast_content_routes (content_id, host, context)
SELECT json_extract_path_text(value, 'content_id'), json_extract_path_text(value, 'host'),
       json_extract_path_text(value, 'context')
FROM json_each($1) WHERE true ON CONFLICT DO NOTHING

-- name: note_routed
UPDATE gatecast_contents SET routed = 1 WHERE id IN (SELECT key FROM json_each($1))

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

-- name: running_dependants
-- Those that should run on some gateways.
SELECT DISTINCT p.gateway_id, p.artifact_id FROM gatecast_content_needs AS n
JOIN gatecast_deployments AS d ON d.content_id = n.content_id
JOIN gatecast_placements AS p ON p.artifact_id = d.artifact_id AND p.gateway_id = d.gateway_id
LEFT JOIN gatecast_deployments AS h ON h.id = p.held
WHERE n.provider_id = $1 AND p.desired = 'DEPLOYED' AND d.revision >= coalesce(h.revision, 0)
  AND p.gateway_id IN (SELECT key FROM json_each($2))
ORDER BY p.gateway_id, p.artifact_id

-- name: insert_needs
INSERT INTO gatecast_content_needs (content_id, provider_id) SELECT $1, key FROM json_each($2)

-- name: insert_secret
INSERT INTO gatecast_secrets (handle, artifact_id, value, created_at) VALUES ($1, $2, $3, now())

-- name: insert_content
INSERT INTO gatecast_contents (id, artifact_id, name, artifact_version, document, credentials, content,
                               openapi_id, routed)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 1)

-- name: insert_content_secrets
INSERT INTO gatecast_content_secrets (content_id, handle) SELECT $1, key FROM json_each($2)

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
-- All but the newest revisions on each gateway, and the one that it said it has.
DELETE FROM gatecast_deployments WHERE artifact_id = $1
    AND revision <= (SELECT newest.revision - $2 FROM gatecast_placements AS p
                     JOIN gatecast_deployments AS newest ON newest.id = p.deployment_id
                     WHERE p.artifact_id = $1 AND p.gateway_id = gatecast_deployments.gateway_id)
    AND id NOT IN (SELECT p.held FROM gatecast_placements AS p WHERE p.artifact_id = $1)
