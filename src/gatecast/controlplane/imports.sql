-- name: imported
SELECT id, local_id, kind, handle, name, status, deployed_at, created_at, updated_at
FROM gatecast_imported_artifacts WHERE gateway_id = $1 ORDER BY kind, handle, local_id

-- name: imported_page
-- In an order that no further import changes.
SELECT id, local_id, kind, handle, name, status, deployed_at, created_at, updated_at
FROM gatecast_imported_artifacts WHERE gateway_id = $1 AND id > $2 ORDER BY id LIMIT $3

-- name: store_imported
INSERT INTO gatecast_imported_artifacts (gateway_id, local_id, id, kind, handle, name, status, configuration,
                                         deployed_at, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, now(), now())
ON CONFLICT (gateway_id, local_id) DO UPDATE SET kind = excluded.kind, handle = excluded.handle,
    name = excluded.name, status = excluded.status, configuration = excluded.configuration,
    deployed_at = excluded.deployed_at, updated_at = excluded.updated_at
