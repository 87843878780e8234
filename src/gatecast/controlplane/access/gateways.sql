-- name: insert_gateway
INSERT INTO gatecast_gateways (id, organization, name, display_name, description, vhost, type, connection_policy,
                               properties, version, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1, now(), now()) ON CONFLICT DO NOTHING

-- name: gateway
-- Without the manifest, which may be large.
SELECT id, organization, name, display_name, description, vhost, type, connection_policy, properties, version,
       created_at, updated_at, unrestored, unlisted, manifest_fault
FROM gatecast_gateways WHERE organization = $1 AND id = $2

-- name: gateways_named
SELECT id, name FROM gatecast_gateways WHERE organization = $1 AND name IN (SELECT key FROM json_each($2))

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

-- name: gateways_among
SELECT id FROM gatecast_gateways WHERE organization = $1 AND id IN (SELECT key FROM json_each($2))

-- name: update_gateway
-- Changes nothing if another writer was faster.
UPDATE gatecast_gateways SET name = $4, display_name = $5, description = $6, vhost = $7, type = $8,
    connection_policy = $9, properties = $10, version = version + 1, updated_at = now()
WHERE organization = $1 AND id = $2 AND version = $3

-- name: name_taken
SELECT id FROM gatecast_gateways WHERE organization = $1 AND name = $2 AND id <> $3

-- name: delete_gateway
DELETE FROM gatecast_gateways WHERE organization = $1 AND id = $2

-- name: record_manifest
UPDATE gatecast_gateways SET manifest = $2, manifest_fault = '' WHERE id = $1

-- name: record_manifest_fault
-- The manifest before it stays.
UPDATE gatecast_gateways SET manifest_fault = $2 WHERE id = $1

-- name: delete_tokens
DELETE FROM gatecast_gateway_tokens WHERE gateway_id = $1
