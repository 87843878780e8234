-- name: generation
SELECT generation FROM gatecast_log_outs WHERE organization = $1 AND subject = $2

-- name: log_out_everywhere
INSERT INTO gatecast_log_outs (organization, subject, generation) VALUES ($1, $2, 1)
ON CONFLICT (organization, subject) DO UPDATE SET generation = gatecast_log_outs.generation + 1
