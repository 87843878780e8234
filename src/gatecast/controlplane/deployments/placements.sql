-- name: placements_of_artifact
SELECT artifact_id, gateway_id, kind, desired, deployment_id, performed_at, event_id, held, doubt, tries, keys_through,
       fetched
FROM gatecast_placements WHERE artifact_id = $1 ORDER BY gateway_id

-- name: known_of_gateway
-- Everything published to a gateway, with its answers.
SELECT p.artifact_id, p.gateway_id, p.kind, p.desired, p.deployment_id, p.performed_at, p.event_id, p.held, p.doubt,
       p.tries, p.keys_through, p.fetched, d.state, d.updated_at AS since
FROM gatecast_placements AS p LEFT JOIN gatecast_deployments AS d ON d.id = p.deployment_id
WHERE p.gateway_id = $1 ORDER BY p.artifact_id

-- name: known_placement
SELECT p.artifact_id, p.gateway_id, p.kind, p.desired, p.deployment_id, p.performed_at, p.event_id, p.held, p.doubt,
       p.tries, p.keys_through, p.fetched, d.state, d.updated_at AS since
FROM gatecast_placements AS p LEFT JOIN gatecast_deployments AS d ON d.id = p.deployment_id
WHERE p.artifact_id = $1 AND p.gateway_id = $2

-- name: placement
SELECT artifact_id, gateway_id, kind, desired, deployment_id, performed_at, event_id, held, doubt, tries, keys_through,
       fetched
FROM gatecast_placements WHERE artifact_id = $1 AND gateway_id = $2

-- name: store_placements
INSERT INTO gatecast_placements (artifact_id, gateway_id, kind, desired, deployment_id, performed_at, event_id, held,
                                 doubt, tries, keys_through, fetched)
SELECT json_extract_path_text(value, 'artifact_id'), json_extract_path_text(value, 'gateway_id'),
       json_extract_path_text(value, 'kind'), json_extract_path_text(value, 'desired'),
       json_extract_path_text(value, 'deployment_id'), CAST(json_extract_path_text(value, 'performed_at') AS bigint),
       json_extract_path_text(value, 'event_id'), json_extract_path_text(value, 'held'),
       json_extract_path_text(value, 'doubt'), CAST(json_extract_path_text(value, 'tries') AS bigint),
       CAST(json_extract_path_text(value, 'keys_through') AS bigint),
       CAST(json_extract_path_text(value, 'fetched') AS bigint)
FROM json_each($1) WHERE true
ON CONFLICT (artifact_id, gateway_id) DO UPDATE SET desired = excluded.desired,
    deployment_id = excluded.deployment_id, performed_at = excluded.performed_at, event_id = excluded.event_id,
    held = excluded.held, doubt = excluded.doubt, tries = excluded.tries, keys_through = excluded.keys_through,
    fetched = excluded.fetched

-- name: supersede
-- These revisions supersede earlier ones, whether they are stored before or after this statement.
UPDATE gatecast_deployments SET state = 'SUPERSEDED', updated_at = now()
FROM json_each($1) AS n
WHERE gatecast_deployments.artifact_id = json_extract_path_text(n.value, 'artifact_id')
    AND gatecast_deployments.gateway_id = json_extract_path_text(n.value, 'gateway_id')
    AND gatecast_deployments.id <> json_extract_path_text(n.value, 'id') AND state <> 'SUPERSEDED'

-- name: insert_deployments
INSERT INTO gatecast_deployments (id, artifact_id, gateway_id, revision, content_id, state, reason, performed_at,
                                  created_at, updated_at)
SELECT json_extract_path_text(value, 'id'), json_extract_path_text(value, 'artifact_id'),
       json_extract_path_text(value, 'gateway_id'), CAST(json_extract_path_text(value, 'revision') AS bigint),
       json_extract_path_text(value, 'content_id'), 'PENDING', '',
       CAST(json_extract_path_text(value, 'performed_at') AS bigint), now(), now()
FROM json_each($1)

-- name: begin_deployments
-- An event for each of these goes out: it waits for its acknowledgement.
UPDATE gatecast_deployments SET state = json_extract_path_text(b.value, 'state'), reason = '',
    performed_at = CAST(json_extract_path_text(b.value, 'performed_at') AS bigint), updated_at = now()
FROM json_each($1) AS b WHERE gatecast_deployments.id = json_extract_path_text(b.value, 'id')

-- name: store_state
UPDATE gatecast_deployments SET state = $2, reason = $3, updated_at = now() WHERE id = $1

-- name: gateway_states
-- The last published deployment of every artifact on one gateway.
SELECT d.id, d.artifact_id, d.gateway_id, d.revision, d.content_id, d.state, d.reason, d.performed_at, d.created_at,
       d.updated_at, a.organization, a.kind, a.handle, p.desired, p.held
FROM gatecast_placements AS p
JOIN gatecast_deployments AS d ON d.id = p.deployment_id
JOIN gatecast_artifacts AS a ON a.id = p.artifact_id
WHERE p.gateway_id = $1 ORDER BY a.kind, a.handle
