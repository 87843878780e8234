-- name: placements_of_artifact
SELECT artifact_id, gateway_id, kind, desired, deployment_id, performed_at, event_id, held, doubt, tries, keys_through,
       fetched
FROM gatecast_placements WHERE artifact_id = $1 ORDER BY gateway_id

-- name: known_of_gateway
-- Everything that a gateway was told of, with what it said of it.
SELECT p.artifact_id, p.gateway_id, p.kind, p.desired, p.deployment_id, p.performed_at, p.event_id, p.held, p.doubt,
       p.tries, p.keys_through, p.fetched, d.state, d.updated_at AS since
FROM gatecast_placements AS p LEFT JOIN gatecast_deployments AS d ON d.id = p.deployment_id
WHERE p.gateway_id = $1 ORDER BY p.artifact_id

-- name: known_placement
SELECT p.artifact_id, p.gateway_id, p.kind, p.desired, p.deployment_id, p.performed_at, p.event_id, p.held, p.doubt,
       p.tries, p.keys_through, p.fetched, d.state, d.updated_at AS since
FROM gatecast_placements AS p LEFT JOIN gatecast_deployments AS d ON d.id = p.deployment_id
WHERE p.artifact_id = $1 AND p.gateway_id = $2

-- name: unsettled
-- The gateways among these that have anything of which more must be found out.
SELECT DISTINCT p.gateway_id
FROM gatecast_placements AS p LEFT JOIN gatecast_deployments AS d ON d.id = p.deployment_id
WHERE p.gateway_id IN (SELECT key FROM json_each($1)) AND (p.doubt <> '' OR p.fetched > 0 OR p.desired = 'DELETED'
    OR d.state IN ('PENDING', 'UNDEPLOYING', 'FAILED'))

-- name: doubt_everything
UPDATE gatecast_placements SET doubt = $2, held = '', keys_through = -1, tries = 0 WHERE gateway_id = $1

-- name: note_listed
-- The gateway is given the list of what it should run. What was fetched and not looked at yet stays so: replicas of one
-- database list one after another, and only the first one finds something to fetch.
UPDATE gatecast_placements SET fetched = 0 WHERE gateway_id = $1 AND desired = 'DEPLOYED' AND fetched = -1

-- name: note_fetched
-- It was given these documents from the list.
UPDATE gatecast_placements SET fetched = performed_at
WHERE gateway_id = $1 AND deployment_id IN (SELECT key FROM json_each($2)) AND desired = 'DEPLOYED' AND fetched = 0

-- name: note_named
-- It has an API: it asks for the subscriptions of each, once in every synchronization.
UPDATE gatecast_placements SET named = s.number FROM gatecast_synchronizations AS s
WHERE gatecast_placements.gateway_id = $1 AND gatecast_placements.artifact_id = $2 AND s.gateway_id = $1

-- name: not_named
-- An API that a gateway had before a synchronization, and did not name in it.
SELECT 1 AS found FROM gatecast_placements AS p JOIN gatecast_deployments AS d ON d.id = p.deployment_id
JOIN gatecast_synchronizations AS s ON s.gateway_id = p.gateway_id
WHERE p.gateway_id = $1 AND s.number = $2 AND p.kind = $3 AND p.desired = 'DEPLOYED' AND d.state = 'DEPLOYED'
    AND d.updated_at < s.began_at AND p.named <> s.number LIMIT 1

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

-- name: delete_placement
DELETE FROM gatecast_placements WHERE artifact_id = $1 AND gateway_id = $2

-- name: revisions_on_gateways
-- The newest revision of each of these artifacts on each of these gateways.
SELECT p.artifact_id, p.gateway_id, p.kind, p.desired, p.deployment_id, p.performed_at, p.event_id, p.held, p.doubt,
       p.tries, p.keys_through, p.fetched, d.revision, d.content_id, d.state
FROM gatecast_placements AS p JOIN gatecast_deployments AS d ON d.id = p.deployment_id
WHERE p.gateway_id IN (SELECT key FROM json_each($1)) AND p.artifact_id IN (SELECT key FROM json_each($2))
ORDER BY p.gateway_id, p.artifact_id

-- name: supersede
-- These revisions take the place of those before them, whether they are stored before this runs or after it.
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

-- name: deployment
SELECT d.id, d.artifact_id, d.gateway_id, d.revision, d.content_id, d.state, d.reason, d.performed_at, d.created_at,
       d.updated_at
FROM gatecast_deployments AS d WHERE d.artifact_id = $1 AND d.id = $2

-- name: deployments
-- One page of an artifact's revisions, newest first.
SELECT d.id, d.artifact_id, d.gateway_id, d.revision, d.content_id, d.state, d.reason, d.performed_at, d.created_at,
       d.updated_at
FROM gatecast_deployments AS d
WHERE d.artifact_id = $1 AND (d.revision < $2 OR (d.revision = $2 AND d.gateway_id > $3))
ORDER BY d.revision DESC, d.gateway_id LIMIT $4

-- name: current_deployments
-- What each gateway was told last of an artifact.
SELECT d.id, d.artifact_id, d.gateway_id, d.revision, d.content_id, d.state, d.reason, d.performed_at, d.created_at,
       d.updated_at, p.desired
FROM gatecast_placements AS p JOIN gatecast_deployments AS d ON d.id = p.deployment_id
WHERE p.artifact_id = $1 ORDER BY d.gateway_id

-- name: current_deployments_of_page
-- The same for all artifacts with handles behind the one, up to the other.
SELECT d.id, d.artifact_id, d.gateway_id, d.revision, d.content_id, d.state, d.reason, d.performed_at, d.created_at,
       d.updated_at, p.desired
FROM gatecast_artifacts AS a
JOIN gatecast_placements AS p ON p.artifact_id = a.id
JOIN gatecast_deployments AS d ON d.id = p.deployment_id
WHERE a.organization = $1 AND a.kind = $2 AND a.handle > $3 AND a.handle <= $4 ORDER BY d.gateway_id

-- name: gateway_states
-- The same for all that one gateway was told.
SELECT d.id, d.artifact_id, d.gateway_id, d.revision, d.content_id, d.state, d.reason, d.performed_at, d.created_at,
       d.updated_at, a.organization, a.kind, a.handle, p.desired, p.held
FROM gatecast_placements AS p
JOIN gatecast_deployments AS d ON d.id = p.deployment_id
JOIN gatecast_artifacts AS a ON a.id = p.artifact_id
WHERE p.gateway_id = $1 ORDER BY a.kind, a.handle

-- name: last_published_on_gateway
-- One page of what one gateway was told; of what is being deleted, artifact and deployment are gone.
SELECT p.artifact_id, p.gateway_id, p.kind, p.desired, p.deployment_id, p.event_id, a.handle, d.id, d.revision,
       d.content_id, d.state, d.reason, d.performed_at, d.created_at, d.updated_at
FROM gatecast_placements AS p
LEFT JOIN gatecast_artifacts AS a ON a.id = p.artifact_id
LEFT JOIN gatecast_deployments AS d ON d.id = p.deployment_id
WHERE p.gateway_id = $1 AND p.artifact_id > $2 ORDER BY p.artifact_id LIMIT $3

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

-- name: content_of_deployment
SELECT c.id, c.content FROM gatecast_deployments AS d JOIN gatecast_contents AS c ON c.id = d.content_id
WHERE d.artifact_id = $1 AND d.id = $2

-- name: gateway_secrets
-- Those that the documents on one gateway ask for.
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

-- name: artifact_of_secret
SELECT artifact_id FROM gatecast_secrets WHERE handle = $1

-- name: gateway_keys
-- The active keys of all artifacts of one kind that a gateway is to run. It would keep those of what it does not have,
-- and not hear when they end.
SELECT k.id, k.artifact_id, k.name, k.mask, k.sha256, k.expires_at, k.created_at, k.updated_at, k.revoked_at,
       k.renewed_at, k.ended_at
FROM gatecast_placements AS p JOIN gatecast_api_keys AS k ON k.artifact_id = p.artifact_id
WHERE p.gateway_id = $1 AND p.kind = $2 AND p.desired = 'DEPLOYED' AND k.revoked_at IS NULL
ORDER BY k.artifact_id, k.name

-- name: late_keys
-- The artifacts of which keys that a gateway reads in lists have changed since $2, the revoked ones included.
SELECT DISTINCT p.artifact_id FROM gatecast_placements AS p JOIN gatecast_api_keys AS k ON k.artifact_id = p.artifact_id
WHERE p.gateway_id = $1 AND p.kind <> 'Mcp' AND p.desired <> 'DELETED' AND k.updated_at >= $2

-- name: raise_keys
-- The version of every active key of these artifacts is at least $2, and two later than it was, as after any change.
UPDATE gatecast_api_keys SET updated_at = CASE WHEN updated_at + 2 > $2 THEN updated_at + 2
    WHEN renewed_at + 2 > $2 THEN renewed_at + 2 ELSE $2 END
WHERE artifact_id IN (SELECT key FROM json_each($1)) AND revoked_at IS NULL AND updated_at < $2

-- name: lock_any_artifacts
-- In the order of changes: providers before the proxies that need them.
SELECT id FROM gatecast_artifacts WHERE id IN (SELECT key FROM json_each($1))
ORDER BY CASE WHEN kind = 'LlmProvider' THEN 0 ELSE 1 END, id FOR NO KEY UPDATE

-- name: artifacts_of_gateway
SELECT artifact_id FROM gatecast_placements WHERE gateway_id = $1 AND desired <> 'DELETED' ORDER BY artifact_id

-- name: keys
SELECT id, artifact_id, name, mask, sha256, expires_at, created_at, updated_at, revoked_at, renewed_at, ended_at
FROM gatecast_api_keys WHERE artifact_id = $1 ORDER BY name, created_at, id

-- name: keys_of_artifacts
SELECT id, artifact_id, name, mask, sha256, expires_at, created_at, updated_at, revoked_at, renewed_at, ended_at
FROM gatecast_api_keys WHERE artifact_id IN (SELECT key FROM json_each($1)) ORDER BY name, created_at, id

-- name: last_key_version
SELECT max(CASE WHEN renewed_at > updated_at THEN renewed_at ELSE updated_at END) AS version
FROM gatecast_api_keys WHERE artifact_id = $1

-- name: active_names
-- The names of the active keys of artifacts.
SELECT k.artifact_id, a.kind, k.name FROM gatecast_api_keys AS k JOIN gatecast_artifacts AS a ON a.id = k.artifact_id
WHERE k.artifact_id IN (SELECT key FROM json_each($1)) AND k.revoked_at IS NULL ORDER BY k.name

-- name: insert_key
INSERT INTO gatecast_api_keys (id, artifact_id, name, mask, sha256, expires_at, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $7)

-- name: rotate_key
UPDATE gatecast_api_keys SET mask = $2, sha256 = $3, expires_at = $4, updated_at = $5 WHERE id = $1

-- name: revoke_key
UPDATE gatecast_api_keys SET revoked_at = $2, updated_at = $2 WHERE id = $1

-- name: renew_key
UPDATE gatecast_api_keys SET renewed_at = $2 WHERE id = $1

-- name: expired_keys
-- Keys whose time is over, and of which gateways have not been told that.
SELECT k.id, k.expires_at, a.organization, a.kind, k.artifact_id, k.name
FROM gatecast_api_keys AS k JOIN gatecast_artifacts AS a ON a.id = k.artifact_id
WHERE k.revoked_at IS NULL AND k.expires_at <= $1 AND k.ended_at < k.updated_at
    AND (k.expires_at > $2 OR (k.expires_at = $2 AND k.id > $3))
ORDER BY k.expires_at, k.id LIMIT $4

-- name: end_key
UPDATE gatecast_api_keys SET updated_at = $2, ended_at = $2 WHERE id = $1

-- name: forget_namesakes
-- Of revoked keys of one name the last is enough.
DELETE FROM gatecast_api_keys WHERE artifact_id = $1 AND revoked_at IS NOT NULL AND EXISTS (
    SELECT 1 FROM gatecast_api_keys AS later WHERE later.artifact_id = $1 AND later.name = gatecast_api_keys.name
        AND later.updated_at > gatecast_api_keys.updated_at)

-- name: forget_revoked_keys
DELETE FROM gatecast_api_keys WHERE artifact_id = $1 AND revoked_at IS NOT NULL AND id NOT IN (
    SELECT id FROM gatecast_api_keys WHERE artifact_id = $1 AND revoked_at IS NOT NULL
    ORDER BY revoked_at DESC, id LIMIT $2)

-- name: manifests
-- What gateways have said of themselves. Most of them say the same, which is read once: `alike` is who says it.
SELECT id, alike, CASE WHEN id = alike THEN manifest END AS manifest FROM (
    SELECT id, manifest, min(id) OVER (PARTITION BY sha256(convert_to(manifest, 'UTF8'))) AS alike
    FROM gatecast_gateways WHERE id IN (SELECT key FROM json_each($1))) AS said
ORDER BY id

-- name: imported_handle
-- Who shows it. One that is undeployed may be deleted: gateways announce both in the same words (gateway-protocol.md 3.7).
SELECT DISTINCT gateway_id FROM gatecast_imported_artifacts
WHERE gateway_id IN (SELECT key FROM json_each($1)) AND kind = $2 AND handle = $3 AND status = 'deployed'

-- name: imported_ids
SELECT id, local_id FROM gatecast_imported_artifacts WHERE gateway_id = $1

-- name: is_unknown
-- Whether an API that a gateway has was never deployed to it, nor announced by it.
SELECT 1 AS found FROM gatecast_gateways AS g WHERE g.id = $1
    AND NOT EXISTS (SELECT 1 FROM gatecast_placements AS p WHERE p.gateway_id = $1 AND p.artifact_id = $2)
    AND NOT EXISTS (SELECT 1 FROM gatecast_imported_artifacts AS i
                    WHERE i.gateway_id = $1 AND (i.local_id = $2 OR i.id = $2))

-- name: note_unknown
-- Up to $4 of a gateway: what it names is its own word.
INSERT INTO gatecast_unknown_apis (gateway_id, artifact_id, kind) SELECT $1, $2, $3
WHERE (SELECT count(*) FROM gatecast_unknown_apis WHERE gateway_id = $1) < $4 ON CONFLICT DO NOTHING

-- name: may_be_unknown
-- Whether a history of this gateway was lost, so that it may have what nobody here knows.
SELECT 1 AS found FROM gatecast_gateways WHERE id = $1 AND unlisted <> ''

-- name: unknown_apis
-- What is still unknown, where a history was lost, once the gateway has announced what was made on it.
SELECT u.artifact_id, u.kind FROM gatecast_unknown_apis AS u
JOIN gatecast_gateways AS g ON g.id = u.gateway_id AND g.unlisted <> ''
JOIN gatecast_synchronizations AS s ON s.gateway_id = u.gateway_id
WHERE u.gateway_id = $1
    AND EXISTS (SELECT 1 FROM gatecast_imported_artifacts AS i
                WHERE i.gateway_id = u.gateway_id AND i.updated_at >= s.began_at)
    AND NOT EXISTS (SELECT 1 FROM gatecast_placements AS p
                    WHERE p.gateway_id = u.gateway_id AND p.artifact_id = u.artifact_id)
    AND NOT EXISTS (SELECT 1 FROM gatecast_imported_artifacts AS i
                    WHERE i.gateway_id = u.gateway_id AND (i.local_id = u.artifact_id OR i.id = u.artifact_id))
ORDER BY u.artifact_id

-- name: orphans
-- What nobody knew of that a gateway asked whether to keep it, and that nobody knows yet.
SELECT u.artifact_id FROM gatecast_unknown_apis AS u WHERE u.gateway_id = $1 AND u.kind = $2
    AND NOT EXISTS (SELECT 1 FROM gatecast_placements AS p
                    WHERE p.gateway_id = u.gateway_id AND p.artifact_id = u.artifact_id)
    AND NOT EXISTS (SELECT 1 FROM gatecast_imported_artifacts AS i
                    WHERE i.gateway_id = u.gateway_id AND (i.local_id = u.artifact_id OR i.id = u.artifact_id))
ORDER BY u.artifact_id

-- name: forget_unknown
DELETE FROM gatecast_unknown_apis WHERE gateway_id = $1
