-- name: exists
SELECT id FROM gatecast_artifacts WHERE organization = $1 AND kind = $2 AND id = $3

-- name: artifacts
-- One page, in the order of handles.
SELECT a.id, a.organization, a.kind, a.handle, a.content_id, a.version, a.created_at, a.updated_at,
       c.document, c.credentials
FROM gatecast_artifacts AS a JOIN gatecast_contents AS c ON c.id = a.content_id
WHERE a.organization = $1 AND a.kind = $2 AND a.handle > $3 ORDER BY a.handle LIMIT $4

-- name: clashes
-- Other artifacts that claim the same route: an older release allowed it.
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

-- name: artifact_name_taken
SELECT id FROM gatecast_artifacts
WHERE organization = $1 AND kind = $2 AND name = $3 AND artifact_version = $4 AND id <> $5

-- name: handles
-- The artifacts that have this handle, or one derived from it.
SELECT handle FROM gatecast_artifacts
WHERE organization = $1 AND kind = $2 AND (handle = $3 OR handle LIKE $3 || '-%')

-- name: contexts
-- The same for contexts, of all kinds: a gateway serves them side by side.
SELECT DISTINCT r.context FROM gatecast_artifacts AS a JOIN gatecast_content_routes AS r ON r.content_id = a.content_id
WHERE a.organization = $1 AND a.id <> $3 AND (r.context = $2 OR r.context LIKE $2 || '-%')

-- name: note_deleted
INSERT INTO gatecast_deleted_artifacts (artifact_id, organization, kind, handle, name, deleted_at)
SELECT id, organization, kind, handle, name, now() FROM gatecast_artifacts WHERE id = $1
RETURNING deleted_at

-- name: forget_deleted
DELETE FROM gatecast_deleted_artifacts WHERE organization = $1 AND deleted_at < $2

-- name: delete_artifact
DELETE FROM gatecast_artifacts WHERE id = $1

-- name: current_deployments
-- The last published deployment of an artifact on each gateway.
SELECT d.id, d.artifact_id, d.gateway_id, d.revision, d.content_id, d.state, d.reason, d.performed_at, d.created_at,
       d.updated_at, p.desired
FROM gatecast_placements AS p JOIN gatecast_deployments AS d ON d.id = p.deployment_id
WHERE p.artifact_id = $1 ORDER BY d.gateway_id

-- name: current_deployments_of_page
-- The same for all artifacts with handles after the one, up to the other.
SELECT d.id, d.artifact_id, d.gateway_id, d.revision, d.content_id, d.state, d.reason, d.performed_at, d.created_at,
       d.updated_at, p.desired
FROM gatecast_artifacts AS a
JOIN gatecast_placements AS p ON p.artifact_id = a.id
JOIN gatecast_deployments AS d ON d.id = p.deployment_id
WHERE a.organization = $1 AND a.kind = $2 AND a.handle > $3 AND a.handle <= $4 ORDER BY d.gateway_id

-- name: last_published_on_gateway
-- One page of what was last published to a gateway; while it is deleted, its artifact and deployment are gone.
SELECT p.artifact_id, p.gateway_id, p.kind, p.desired, p.deployment_id, p.event_id, a.handle, d.id, d.revision,
       d.content_id, d.state, d.reason, d.performed_at, d.created_at, d.updated_at
FROM gatecast_placements AS p
LEFT JOIN gatecast_artifacts AS a ON a.id = p.artifact_id
LEFT JOIN gatecast_deployments AS d ON d.id = p.deployment_id
WHERE p.gateway_id = $1 AND p.artifact_id > $2 ORDER BY p.artifact_id LIMIT $3

-- name: deployments
-- One page of an artifact's revisions, newest first.
SELECT d.id, d.artifact_id, d.gateway_id, d.revision, d.content_id, d.state, d.reason, d.performed_at, d.created_at,
       d.updated_at
FROM gatecast_deployments AS d
WHERE d.artifact_id = $1 AND (d.revision < $2 OR (d.revision = $2 AND d.gateway_id > $3))
ORDER BY d.revision DESC, d.gateway_id LIMIT $4

-- name: deployment
SELECT d.id, d.artifact_id, d.gateway_id, d.revision, d.content_id, d.state, d.reason, d.performed_at, d.created_at,
       d.updated_at
FROM gatecast_deployments AS d WHERE d.artifact_id = $1 AND d.id = $2

-- name: content_of_deployment
SELECT c.id, c.content FROM gatecast_deployments AS d JOIN gatecast_contents AS c ON c.id = d.content_id
WHERE d.artifact_id = $1 AND d.id = $2
