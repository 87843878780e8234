-- name: unsettled
-- The gateways among these with an uncertain placement.
SELECT DISTINCT p.gateway_id
FROM gatecast_placements AS p LEFT JOIN gatecast_deployments AS d ON d.id = p.deployment_id
WHERE p.gateway_id IN (SELECT key FROM json_each($1)) AND (p.doubt <> '' OR p.fetched > 0 OR p.desired = 'DELETED'
    OR d.state IN ('PENDING', 'UNDEPLOYING', 'FAILED'))

-- name: note_listed
-- The gateway gets the list of what it should run. Placements that are fetched and not examined yet stay so: replicas
-- of one database list one after another, and only the first finds something to fetch.
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

-- name: delete_placement
DELETE FROM gatecast_placements WHERE artifact_id = $1 AND gateway_id = $2

-- name: overlooked
-- The gateways among these that may need events because of changed keys, unknown artifacts or a new database.
SELECT * FROM (
    SELECT g.id AS gateway_id,
        coalesce((SELECT max(k.updated_at) FROM gatecast_placements AS p
                  JOIN gatecast_api_keys AS k ON k.artifact_id = p.artifact_id
                  WHERE p.gateway_id = g.id AND p.kind <> 'Mcp' AND p.desired <> 'DELETED'), -1) AS keys_changed_at,
        EXISTS (SELECT 1 FROM gatecast_unknown_apis AS u WHERE u.gateway_id = g.id) AS has_unknown,
        EXISTS (SELECT 1 FROM gatecast_synchronizations AS s WHERE s.gateway_id = g.id AND s.began_anew) AS began_anew
    FROM gatecast_gateways AS g WHERE g.id IN (SELECT key FROM json_each($1))) AS seen
WHERE keys_changed_at >= 0 OR has_unknown OR began_anew

-- name: late_keys
-- The artifacts whose keys, among those that a gateway reads in lists, have changed since $2, revocations included.
SELECT DISTINCT p.artifact_id FROM gatecast_placements AS p JOIN gatecast_api_keys AS k ON k.artifact_id = p.artifact_id
WHERE p.gateway_id = $1 AND p.kind <> 'Mcp' AND p.desired <> 'DELETED' AND k.updated_at >= $2

-- name: artifacts_of_gateway
SELECT artifact_id FROM gatecast_placements WHERE gateway_id = $1 AND desired <> 'DELETED' ORDER BY artifact_id

-- name: lock_any_artifacts
-- In the order of changes: providers before the proxies that need them.
SELECT id FROM gatecast_artifacts WHERE id IN (SELECT key FROM json_each($1))
ORDER BY CASE WHEN kind = 'LlmProvider' THEN 0 ELSE 1 END, id FOR NO KEY UPDATE

-- name: raise_keys
-- The version of every active key of these artifacts is at least $2, and two later than it was, as after any change.
UPDATE gatecast_api_keys SET updated_at = CASE WHEN updated_at + 2 > $2 THEN updated_at + 2
    WHEN renewed_at + 2 > $2 THEN renewed_at + 2 ELSE $2 END
WHERE artifact_id IN (SELECT key FROM json_each($1)) AND revoked_at IS NULL AND updated_at < $2

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

-- name: unknown_apis
-- The artifacts still unknown, if a history was lost, once the gateway has announced its own.
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
-- Artifacts that a gateway asked whether to keep, and that are still unknown.
SELECT u.artifact_id FROM gatecast_unknown_apis AS u WHERE u.gateway_id = $1 AND u.kind = $2
    AND NOT EXISTS (SELECT 1 FROM gatecast_placements AS p
                    WHERE p.gateway_id = u.gateway_id AND p.artifact_id = u.artifact_id)
    AND NOT EXISTS (SELECT 1 FROM gatecast_imported_artifacts AS i
                    WHERE i.gateway_id = u.gateway_id AND (i.local_id = u.artifact_id OR i.id = u.artifact_id))
ORDER BY u.artifact_id

-- name: forget_unknown
DELETE FROM gatecast_unknown_apis WHERE gateway_id = $1
