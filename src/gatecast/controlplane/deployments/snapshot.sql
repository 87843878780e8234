-- name: running_dependants
-- Which proxies that may need a provider should run on some gateways.
SELECT DISTINCT p.gateway_id, p.artifact_id FROM gatecast_content_needs AS n
JOIN gatecast_deployments AS d ON d.content_id = n.content_id
JOIN gatecast_placements AS p ON p.artifact_id = d.artifact_id AND p.gateway_id = d.gateway_id
LEFT JOIN gatecast_deployments AS h ON h.id = p.held
WHERE n.provider_id = $1 AND p.desired = 'DEPLOYED' AND d.revision >= coalesce(h.revision, 0)
  AND p.gateway_id IN (SELECT key FROM json_each($2))
ORDER BY p.gateway_id, p.artifact_id

-- name: names_on_gateways
-- Artifacts that use, or may still use, a name: every revision a gateway may have, from the one it said it has up to
-- the newest, running or not. An unacknowledged revision may have failed.
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
-- Artifacts that are, or should be, served at these places: the last published one and, if it failed, the one before.
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

-- name: handles_by_id
SELECT id, handle FROM gatecast_artifacts WHERE id IN (SELECT key FROM json_each($1))

-- name: revisions_on_gateways
-- The newest revision of each of these artifacts on each of these gateways.
SELECT p.artifact_id, p.gateway_id, p.kind, p.desired, p.deployment_id, p.performed_at, p.event_id, p.held, p.doubt,
       p.tries, p.keys_through, p.fetched, d.revision, d.content_id, d.state
FROM gatecast_placements AS p JOIN gatecast_deployments AS d ON d.id = p.deployment_id
WHERE p.gateway_id IN (SELECT key FROM json_each($1)) AND p.artifact_id IN (SELECT key FROM json_each($2))
ORDER BY p.gateway_id, p.artifact_id

-- name: imported_handle
-- Gateways that list it. An undeployed one may be deleted: gateways announce both alike (gateway-protocol.md 3.7).
SELECT DISTINCT gateway_id FROM gatecast_imported_artifacts
WHERE gateway_id IN (SELECT key FROM json_each($1)) AND kind = $2 AND handle = $3 AND status = 'deployed'

-- name: manifests
-- The manifests of gateways. Equal manifests are read once: `alike` is the gateway whose manifest is read.
SELECT id, alike, CASE WHEN id = alike THEN manifest END AS manifest FROM (
    SELECT id, manifest, min(id) OVER (PARTITION BY sha256(convert_to(manifest, 'UTF8'))) AS alike
    FROM gatecast_gateways WHERE id IN (SELECT key FROM json_each($1))) AS said
ORDER BY id
