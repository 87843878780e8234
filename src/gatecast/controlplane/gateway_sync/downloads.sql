-- name: current_content
-- The document that a gateway is to run; none when it is to run none.
SELECT c.id, c.content FROM gatecast_placements AS p
JOIN gatecast_deployments AS d ON d.id = p.deployment_id
JOIN gatecast_contents AS c ON c.id = d.content_id
WHERE p.gateway_id = $1 AND p.kind = $2 AND p.artifact_id = $3 AND p.desired = 'DEPLOYED'

-- name: deployed_content
-- The same by deployment.
SELECT c.id, c.content, p.kind, p.artifact_id FROM gatecast_placements AS p
JOIN gatecast_deployments AS d ON d.id = p.deployment_id
JOIN gatecast_contents AS c ON c.id = d.content_id
WHERE p.gateway_id = $1 AND p.deployment_id = $2 AND p.desired = 'DEPLOYED'

-- name: gateway_secrets
-- The secrets that the documents on one gateway refer to.
SELECT DISTINCT s.handle, s.created_at, s.value FROM gatecast_placements AS p
JOIN gatecast_deployments AS d ON d.id = p.deployment_id
JOIN gatecast_content_secrets AS c ON c.content_id = d.content_id
JOIN gatecast_secrets AS s ON s.handle = c.handle
WHERE p.gateway_id = $1 AND p.desired = 'DEPLOYED' ORDER BY s.handle

-- name: gateway_secret
SELECT s.handle, s.created_at, s.value FROM gatecast_placements AS p
JOIN gatecast_deployments AS d ON d.id = p.deployment_id
JOIN gatecast_content_secrets AS c ON c.content_id = d.content_id
JOIN gatecast_secrets AS s ON s.handle = c.handle
WHERE p.gateway_id = $1 AND s.handle = $2 AND p.desired = 'DEPLOYED' LIMIT 1

-- name: gateway_keys
-- The active keys of all artifacts of one kind that a gateway is to run. It would keep keys of other artifacts, and not
-- hear when they end.
SELECT k.id, k.artifact_id, k.name, k.mask, k.sha256, k.expires_at, k.created_at, k.updated_at, k.revoked_at,
       k.renewed_at, k.ended_at
FROM gatecast_placements AS p JOIN gatecast_api_keys AS k ON k.artifact_id = p.artifact_id
WHERE p.gateway_id = $1 AND p.kind = $2 AND p.desired = 'DEPLOYED' AND k.revoked_at IS NULL
ORDER BY k.artifact_id, k.name

-- name: imported_ids
SELECT id, local_id FROM gatecast_imported_artifacts WHERE gateway_id = $1
