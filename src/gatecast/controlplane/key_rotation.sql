-- name: old_documents
-- Documents that an older key encrypted, some at a time; a text begins with the id of its key.
SELECT id, document AS sealed FROM gatecast_contents WHERE substr(document, 1, 4) <> $1 LIMIT $2

-- name: replace_documents
UPDATE gatecast_contents SET document = $2 WHERE id = $3 AND document = $1

-- name: old_secrets
SELECT handle, value AS sealed FROM gatecast_secrets WHERE substr(value, 1, 4) <> $1 LIMIT $2

-- name: replace_secrets
UPDATE gatecast_secrets SET value = $2 WHERE handle = $3 AND value = $1

-- name: old_contents
SELECT id, content AS sealed FROM gatecast_contents WHERE substr(content, 1, 4) <> $1 LIMIT $2

-- name: replace_contents
UPDATE gatecast_contents SET content = $2 WHERE id = $3 AND content = $1

-- name: old_openapi
SELECT id, document AS sealed FROM gatecast_openapi WHERE substr(document, 1, 4) <> $1 LIMIT $2

-- name: replace_openapi
UPDATE gatecast_openapi SET document = $2 WHERE id = $3 AND document = $1

-- name: old_imports
SELECT id, configuration AS sealed FROM gatecast_imported_artifacts WHERE substr(configuration, 1, 4) <> $1 LIMIT $2

-- name: replace_imports
UPDATE gatecast_imported_artifacts SET configuration = $2 WHERE id = $3 AND configuration = $1

-- name: old_records
SELECT gateway_id, kind, id, body AS sealed FROM gatecast_subscription_records WHERE substr(body, 1, 4) <> $1 LIMIT $2

-- name: replace_records
UPDATE gatecast_subscription_records SET body = $2 WHERE gateway_id = $3 AND kind = $4 AND id = $5 AND body = $1
