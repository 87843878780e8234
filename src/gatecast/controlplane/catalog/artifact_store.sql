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

-- name: whole_artifact
-- An artifact with the description of its API.
SELECT a.id, a.organization, a.kind, a.handle, a.content_id, a.version, a.created_at, a.updated_at,
       c.document, c.credentials, o.id AS openapi_id, o.document AS openapi
FROM gatecast_artifacts AS a JOIN gatecast_contents AS c ON c.id = a.content_id
LEFT JOIN gatecast_openapi AS o ON o.id = c.openapi_id
WHERE a.organization = $1 AND a.kind = $2 AND a.id = $3

-- name: insert_openapi
INSERT INTO gatecast_openapi (id, artifact_id, document) VALUES ($1, $2, $3)

-- name: artifacts_by_id
SELECT a.id, a.organization, a.kind, a.handle, a.content_id, a.version, a.created_at, a.updated_at,
       c.document, c.credentials
FROM gatecast_artifacts AS a JOIN gatecast_contents AS c ON c.id = a.content_id
WHERE a.id IN (SELECT key FROM json_each($1))

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
-- In one order; the second writer waits, and then sees what the first one did.
SELECT id, handle FROM gatecast_artifacts
WHERE organization = $1 AND kind = $2 AND id IN (SELECT key FROM json_each($3)) ORDER BY id FOR NO KEY UPDATE

-- name: update_artifact
UPDATE gatecast_artifacts SET name = $2, artifact_version = $3, content_id = $4, version = version + 1,
    updated_at = now()
WHERE id = $1

-- name: unrouted
-- Contents whose routes are not stored yet.
SELECT c.id, c.document, a.kind FROM gatecast_contents AS c JOIN gatecast_artifacts AS a ON a.id = c.artifact_id
WHERE c.routed = 0 AND c.id > $1 ORDER BY c.id LIMIT $2

-- name: insert_routes
INSERT INTO gatecast_content_routes (content_id, host, context)
SELECT json_extract_path_text(value, 'content_id'), json_extract_path_text(value, 'host'),
       json_extract_path_text(value, 'context')
FROM json_each($1) WHERE true ON CONFLICT DO NOTHING

-- name: note_routed
UPDATE gatecast_contents SET routed = 1 WHERE id IN (SELECT key FROM json_each($1))

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
