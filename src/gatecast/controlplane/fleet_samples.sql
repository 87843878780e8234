-- name: claim
-- One pod measures for all: who comes second finds the row.
INSERT INTO gatecast_fleet_samples (organization, taken_at, measured_at, recorded, confirmed, lag, median, slowest)
VALUES ($1, $2, 0, -1, -1, 0, -1, -1) ON CONFLICT DO NOTHING

-- name: store
UPDATE gatecast_fleet_samples SET measured_at = $3, recorded = $4, confirmed = $5, lag = $6, median = $7, slowest = $8
WHERE organization = $1 AND taken_at = $2

-- name: forget
DELETE FROM gatecast_fleet_samples WHERE organization = $1 AND taken_at < $2

-- name: samples
SELECT measured_at, recorded, confirmed, lag, median, slowest FROM gatecast_fleet_samples
WHERE organization = $1 AND taken_at >= $2 AND recorded >= 0 ORDER BY taken_at
