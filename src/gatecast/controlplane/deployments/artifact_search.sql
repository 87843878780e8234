-- name: artifacts
-- One page of the matching artifacts, with the total. Only the artifacts of one organization are searched and sorted,
-- never their placements; the index of states finds out whether an artifact is in a state.
SELECT m.id, m.kind, m.handle, m.name, m.artifact_version, m.created_at, m.updated_at, m.total,
       (SELECT min(r.context) FROM gatecast_content_routes AS r WHERE r.content_id = m.content_id) AS context
FROM (
    SELECT a.id, a.kind, a.handle, a.name, a.artifact_version, a.content_id, a.created_at, a.updated_at,
           count(*) OVER () AS total
    FROM gatecast_artifacts AS a
    WHERE a.organization = $1 AND ($2 = '' OR a.kind = $2)
      AND ($3 = '' OR a.name LIKE $3 ESCAPE '!' OR lower(a.name) LIKE $4 ESCAPE '!' OR a.handle LIKE $4 ESCAPE '!')
      AND ($5 = '' OR EXISTS (
          SELECT 1 FROM gatecast_deployments AS d
          WHERE d.artifact_id = a.id AND d.state <> 'SUPERSEDED' AND d.state IN ($5, $6, $7, $8, $9)))
) AS m
WHERE m.kind > $10 OR (m.kind = $10 AND m.handle > $11)
ORDER BY CASE WHEN $12 = 'changed' THEN m.updated_at END DESC, m.kind, m.handle LIMIT $13 OFFSET $14

-- name: states
-- How many gateways are in which state of each of these artifacts, and since when the first of them.
SELECT artifact_id, state, count(*) AS number, min(performed_at) AS since FROM gatecast_deployments
WHERE artifact_id IN (SELECT key FROM json_each($1)) AND state <> 'SUPERSEDED' GROUP BY artifact_id, state

-- name: deployments
-- One page of the last published deployments, by artifact and gateway name.
SELECT d.id, d.artifact_id, d.gateway_id, d.revision, d.content_id, d.state, d.reason, d.performed_at, d.created_at,
       d.updated_at, a.kind, a.handle, a.name, g.name AS gateway_name, p.desired
FROM gatecast_artifacts AS a
JOIN gatecast_deployments AS d ON d.artifact_id = a.id
JOIN gatecast_placements AS p ON p.artifact_id = d.artifact_id AND p.gateway_id = d.gateway_id
JOIN gatecast_gateways AS g ON g.id = d.gateway_id
WHERE a.organization = $1 AND ($2 = '' OR a.kind = $2) AND ($3 = '' OR a.id = $3)
  AND d.state <> 'SUPERSEDED' AND d.state IN ($4, $5, $6, $7, $8)
  AND ($9 = '' OR g.name LIKE $9 ESCAPE '!' OR lower(g.name) LIKE $10 ESCAPE '!')
  AND (a.kind > $11 OR (a.kind = $11 AND (a.handle > $12 OR (a.handle = $12 AND g.name > $13))))
ORDER BY a.kind, a.handle, g.name LIMIT $14

-- name: artifacts_seen
-- Another answer whenever artifacts of the organization are added, changed or deleted; with the time of the database.
SELECT count(*) AS number, CAST(coalesce(sum(version), 0) AS bigint) AS versions, now() AS now
FROM gatecast_artifacts WHERE organization = $1

-- name: deleted_since
-- Artifacts that were deleted at $2 or later, the newest first.
SELECT artifact_id, kind, handle, name, deleted_at FROM gatecast_deleted_artifacts
WHERE organization = $1 AND deleted_at >= $2 ORDER BY deleted_at DESC, artifact_id LIMIT $3

-- name: deployments_since
-- Last published deployments that changed, or were acknowledged, after $2; the newest first. The newer ones are found
-- first, regardless of statistics.
WITH changed AS MATERIALIZED (
    SELECT id, artifact_id, gateway_id, revision, content_id, state, reason, performed_at, created_at, updated_at
    FROM gatecast_deployments WHERE updated_at >= $2 AND state <> 'SUPERSEDED'
)
SELECT d.id, d.artifact_id, d.gateway_id, d.revision, d.content_id, d.state, d.reason, d.performed_at, d.created_at,
       d.updated_at, a.kind, a.handle, a.name, g.name AS gateway_name, p.desired
FROM changed AS d
JOIN gatecast_artifacts AS a ON a.id = d.artifact_id
JOIN gatecast_placements AS p ON p.artifact_id = d.artifact_id AND p.gateway_id = d.gateway_id
JOIN gatecast_gateways AS g ON g.id = d.gateway_id
WHERE a.organization = $1 ORDER BY d.updated_at DESC, d.id LIMIT $3
