-- name: artifact_of_secret
SELECT artifact_id FROM gatecast_secrets WHERE handle = $1

-- name: doubt_everything
UPDATE gatecast_placements SET doubt = $2, held = '', keys_through = -1, tries = 0 WHERE gateway_id = $1

-- name: may_be_unknown
-- Whether a history of this gateway was lost, so that it may have unknown artifacts.
SELECT 1 AS found FROM gatecast_gateways WHERE id = $1 AND unlisted <> ''
