-- name: dependants
-- Handles of the proxies whose document names a provider.
SELECT a.handle FROM gatecast_content_needs AS n JOIN gatecast_artifacts AS a ON a.content_id = n.content_id
WHERE n.provider_id = $1 ORDER BY a.handle

-- name: dependants_on_gateways
-- Which proxies may need a provider on which gateways: a gateway may have any revision from the acknowledged one up to
-- the newest, running or not. It would refuse to delete the provider, and remove its keys nevertheless.
SELECT DISTINCT p.gateway_id, p.artifact_id, a.handle, p.desired FROM gatecast_content_needs AS n
JOIN gatecast_deployments AS d ON d.content_id = n.content_id
JOIN gatecast_artifacts AS a ON a.id = d.artifact_id
JOIN gatecast_placements AS p ON p.artifact_id = d.artifact_id AND p.gateway_id = d.gateway_id
LEFT JOIN gatecast_deployments AS h ON h.id = p.held
WHERE n.provider_id = $1 AND p.desired <> 'DELETED' AND d.revision >= coalesce(h.revision, 0)
ORDER BY p.gateway_id, p.artifact_id

-- name: forget_deployments
-- All but the newest revisions on each gateway, and the one that it has acknowledged.
DELETE FROM gatecast_deployments WHERE artifact_id = $1
    AND revision <= (SELECT newest.revision - $2 FROM gatecast_placements AS p
                     JOIN gatecast_deployments AS newest ON newest.id = p.deployment_id
                     WHERE p.artifact_id = $1 AND p.gateway_id = gatecast_deployments.gateway_id)
    AND id NOT IN (SELECT p.held FROM gatecast_placements AS p WHERE p.artifact_id = $1)

-- name: forget_contents
-- Contents that neither the artifact nor a deployment refers to any longer.
DELETE FROM gatecast_contents WHERE artifact_id = $1
    AND id <> (SELECT a.content_id FROM gatecast_artifacts AS a WHERE a.id = $1)
    AND NOT EXISTS (SELECT 1 FROM gatecast_deployments AS d WHERE d.content_id = gatecast_contents.id)

-- name: forget_secrets
DELETE FROM gatecast_secrets WHERE artifact_id = $1 AND NOT EXISTS (
    SELECT 1 FROM gatecast_content_secrets AS s WHERE s.handle = gatecast_secrets.handle)

-- name: forget_openapi
DELETE FROM gatecast_openapi WHERE artifact_id = $1 AND id NOT IN (
    SELECT c.openapi_id FROM gatecast_contents AS c WHERE c.artifact_id = $1 AND c.openapi_id IS NOT NULL)
