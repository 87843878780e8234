-- name: lock_names
-- Makes the organization's row and locks it: nobody else names a gateway until this transaction ends.
INSERT INTO gatecast_organizations (id) VALUES ($1) ON CONFLICT (id) DO UPDATE SET id = excluded.id

-- name: insert_gateway
INSERT INTO gatecast_gateways (id, organization, name, display_name, description, vhost, type, connection_policy,
                               properties, version, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1, now(), now()) ON CONFLICT DO NOTHING

-- name: gateway
-- Without the manifest, which may be large.
SELECT id, organization, name, display_name, description, vhost, type, connection_policy, properties, version,
       created_at, updated_at, unrestored, unlisted, manifest_fault
FROM gatecast_gateways WHERE organization = $1 AND id = $2

-- name: gateway_named
SELECT id FROM gatecast_gateways WHERE organization = $1 AND name = $2

-- name: manifest
SELECT manifest FROM gatecast_gateways WHERE organization = $1 AND id = $2

-- name: gateways
-- One page, in the order of names.
SELECT id, organization, name, display_name, description, vhost, type, connection_policy, properties, version,
       created_at, updated_at, unrestored, unlisted, manifest_fault
FROM gatecast_gateways WHERE organization = $1 AND name > $2 ORDER BY name LIMIT $3

-- name: gateways_by_id
SELECT id, organization, name, display_name, description, vhost, type, connection_policy, properties, version,
       created_at, updated_at, unrestored, unlisted, manifest_fault
FROM gatecast_gateways WHERE organization = $1 AND id IN (SELECT key FROM json_each($2)) ORDER BY name

-- name: gateway_names
-- As little of each as a list of ten thousand has room for, in the order of names.
SELECT id, name, display_name, version, unrestored FROM gatecast_gateways WHERE organization = $1 ORDER BY name LIMIT $2

-- name: gateway_ids
SELECT id FROM gatecast_gateways WHERE organization = $1 ORDER BY id LIMIT $2

-- name: update_gateway
-- Changes nothing when somebody else was faster.
UPDATE gatecast_gateways SET name = $4, display_name = $5, description = $6, vhost = $7, type = $8,
    connection_policy = $9, properties = $10, version = version + 1, updated_at = now()
WHERE organization = $1 AND id = $2 AND version = $3

-- name: name_taken
SELECT id FROM gatecast_gateways WHERE organization = $1 AND name = $2 AND id <> $3

-- name: delete_gateway
DELETE FROM gatecast_gateways WHERE organization = $1 AND id = $2

-- name: delete_tokens
DELETE FROM gatecast_gateway_tokens WHERE gateway_id = $1

-- name: record_manifest
UPDATE gatecast_gateways SET manifest = $2, manifest_fault = '' WHERE id = $1

-- name: record_manifest_fault
-- The manifest before it stays.
UPDATE gatecast_gateways SET manifest_fault = $2 WHERE id = $1

-- name: lock_gateway
-- An update is the lock that every database knows: whoever comes second waits, and then sees what the first one did.
UPDATE gatecast_gateways SET version = version WHERE organization = $1 AND id = $2

-- name: lock_gateways
-- In one order, so that no two changes wait for each other; whoever comes second sees what the first one did.
SELECT id FROM gatecast_gateways WHERE organization = $1 AND id IN (SELECT key FROM json_each($2))
ORDER BY id FOR NO KEY UPDATE

-- name: lock_to_count
SELECT id FROM gatecast_gateways WHERE id IN (SELECT key FROM json_each($1)) ORDER BY id FOR NO KEY UPDATE

-- name: count_own_events
UPDATE gatecast_gateways SET own_events = own_events + CAST(json_extract_path_text(c.value, 'count') AS bigint)
FROM json_each($1) AS c WHERE gatecast_gateways.id = c.key

-- name: own_events
SELECT own_events FROM gatecast_gateways WHERE id = $1

-- name: mark_unlisted
UPDATE gatecast_gateways SET unlisted = $2 WHERE id = $1

-- name: mark_unrestored
UPDATE gatecast_gateways SET unrestored = $2 WHERE id = $1

-- name: insert_token
INSERT INTO gatecast_gateway_tokens (id, gateway_id, prefix, digest, created_at) VALUES ($1, $2, $3, $4, now())

-- name: tokens
SELECT id, prefix, created_at, last_used_at, revoked_at FROM gatecast_gateway_tokens
WHERE gateway_id = $1 ORDER BY created_at, id

-- name: revoke_token
UPDATE gatecast_gateway_tokens SET revoked_at = now() WHERE gateway_id = $1 AND id = $2 AND revoked_at IS NULL

-- name: forget_revoked_tokens
-- All but the newest few.
DELETE FROM gatecast_gateway_tokens WHERE gateway_id = $1 AND revoked_at IS NOT NULL AND id NOT IN (
    SELECT id FROM gatecast_gateway_tokens WHERE gateway_id = $1 AND revoked_at IS NOT NULL
    ORDER BY revoked_at DESC, id LIMIT $2)

-- name: token_owner
SELECT t.id AS token_id, t.digest, g.id AS gateway_id, g.organization, g.connection_policy
FROM gatecast_gateway_tokens AS t JOIN gatecast_gateways AS g ON g.id = t.gateway_id
WHERE t.digest = $1 AND t.revoked_at IS NULL

-- name: confirm_use
-- Waits for a revocation that is under way, and then finds the token revoked.
UPDATE gatecast_gateway_tokens SET last_used_at = now() WHERE id = $1 AND revoked_at IS NULL

-- name: insert_admin_token
INSERT INTO gatecast_admin_tokens (id, organization, digest, role, created_at) VALUES ($1, $2, $3, $4, now())
ON CONFLICT DO NOTHING

-- name: admin_tokens
SELECT id FROM gatecast_admin_tokens LIMIT 1

-- name: admin_token
SELECT id, organization, digest, role FROM gatecast_admin_tokens WHERE digest = $1

-- name: all_admin_tokens
SELECT id, organization, role, created_at FROM gatecast_admin_tokens ORDER BY created_at, id

-- name: delete_admin_token
DELETE FROM gatecast_admin_tokens WHERE id = $1
