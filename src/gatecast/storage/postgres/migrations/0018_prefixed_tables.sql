-- The tables are in a schema of their own; the number is that of SQLite.
SELECT 1;
