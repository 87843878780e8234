-- name: time
SELECT now() AS now
