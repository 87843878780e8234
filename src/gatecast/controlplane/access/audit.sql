-- name: record
INSERT INTO gatecast_audit (id, organization, asked_at, subject, role, remote, door, action, target, status)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0)

-- name: describe
-- A more precise target.
UPDATE gatecast_audit SET target = $2 WHERE id = $1

-- name: answered
-- The created resource replaces the requested one.
UPDATE gatecast_audit SET status = $2, target = CASE WHEN $3 = '' THEN target ELSE $3 END WHERE id = $1

-- name: page
-- One page, newest first, before the entry with this time and id.
SELECT id, asked_at, subject, role, remote, door, action, target, status FROM gatecast_audit
WHERE organization = $1 AND (asked_at < $2 OR (asked_at = $2 AND id < $3))
  AND ($4 = '' OR action = $4) AND ($5 = '' OR subject = $5)
ORDER BY asked_at DESC, id DESC LIMIT $6

-- name: forget
-- A chunk of older entries.
DELETE FROM gatecast_audit WHERE id IN (SELECT id FROM gatecast_audit WHERE asked_at < $1 ORDER BY asked_at LIMIT $2)
