-- name: templates
SELECT handle, document, version, created_at, updated_at FROM gatecast_llm_provider_templates
WHERE organization = $1 ORDER BY handle

-- name: template
SELECT handle, document, version, created_at, updated_at FROM gatecast_llm_provider_templates
WHERE organization = $1 AND handle = $2

-- name: insert_template
INSERT INTO gatecast_llm_provider_templates (organization, handle, document, version, created_at, updated_at)
VALUES ($1, $2, $3, 1, now(), now())

-- name: update_template
UPDATE gatecast_llm_provider_templates SET document = $3, version = version + 1, updated_at = now()
WHERE organization = $1 AND handle = $2

-- name: delete_template
DELETE FROM gatecast_llm_provider_templates WHERE organization = $1 AND handle = $2
