-- The file beside the database tells whether it was put back; the number is that of PostgreSQL.
SELECT 1;
