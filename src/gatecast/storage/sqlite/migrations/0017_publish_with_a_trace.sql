-- SQLite has no functions of ours; the number is that of PostgreSQL.
SELECT 1;
