-- name: imported
SELECT id, local_id, kind, handle, name, status, deployed_at, created_at, updated_at
FROM gatecast_imported_artifacts WHERE gateway_id = $1 ORDER BY kind, handle, local_id

-- name: own_artifacts
-- Artifacts deployed to the gateway: it may announce them, too.
SELECT artifact_id FROM gatecast_placements WHERE gateway_id = $1

-- name: forget_imported
DELETE FROM gatecast_imported_artifacts WHERE gateway_id = $1 AND local_id = $2

-- name: oldest_undeployed
SELECT local_id FROM gatecast_imported_artifacts
WHERE gateway_id = $1 AND status = 'undeployed' ORDER BY updated_at, local_id LIMIT 1

-- name: imported_page
-- In an order that no further import changes.
SELECT id, local_id, kind, handle, name, status, deployed_at, created_at, updated_at
FROM gatecast_imported_artifacts WHERE gateway_id = $1 AND id > $2 ORDER BY id LIMIT $3

-- name: store_imported
INSERT INTO gatecast_imported_artifacts (gateway_id, local_id, id, kind, handle, name, artifact_version, status,
                                         configuration, deployed_at, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, now(), now())
ON CONFLICT (gateway_id, local_id) DO UPDATE SET kind = excluded.kind, handle = excluded.handle,
    name = excluded.name, artifact_version = excluded.artifact_version, status = excluded.status,
    configuration = excluded.configuration, deployed_at = excluded.deployed_at, updated_at = excluded.updated_at

-- name: forget_routes
DELETE FROM gatecast_imported_routes WHERE gateway_id = $1 AND local_id = $2

-- name: insert_routes
INSERT INTO gatecast_imported_routes (gateway_id, local_id, host, context)
SELECT $1, $2, json_extract_path_text(value, 'host'), json_extract_path_text(value, 'context') FROM json_each($3)

-- name: note_new_database
-- Unless it has read everything since it was empty.
UPDATE gatecast_synchronizations SET began_anew = true WHERE gateway_id = $1 AND delivered <> number

-- name: routes_on_gateways
-- Gateway-owned artifacts at one of these routes.
SELECT i.gateway_id, i.kind, i.handle, r.host, r.context FROM gatecast_imported_routes AS r
JOIN gatecast_imported_artifacts AS i ON i.gateway_id = r.gateway_id AND i.local_id = r.local_id
WHERE r.gateway_id IN (SELECT key FROM json_each($1)) AND r.context = $2
  AND r.host IN (SELECT key FROM json_each($3)) AND r.local_id <> $4 AND i.status = 'deployed'
ORDER BY i.gateway_id, i.handle, r.host

-- name: namesakes
-- Gateway-owned artifacts with this handle, or with this name and version.
SELECT gateway_id, handle, name, artifact_version FROM gatecast_imported_artifacts
WHERE gateway_id IN (SELECT key FROM json_each($1)) AND kind = $2 AND local_id <> $3 AND status = 'deployed'
  AND (handle = $4 OR (name = $5 AND artifact_version = $6))
ORDER BY gateway_id, local_id

-- name: known_template
-- Made by an organization, or shown by one of its gateways.
SELECT handle FROM gatecast_llm_provider_templates WHERE organization = $1 AND handle = $2
UNION
SELECT i.handle FROM gatecast_imported_artifacts AS i JOIN gatecast_gateways AS g ON g.id = i.gateway_id
WHERE g.organization = $1 AND i.handle = $2 AND i.kind = 'LlmProviderTemplate' AND i.status = 'deployed'
