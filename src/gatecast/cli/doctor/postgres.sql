-- name: server
-- What the server says of itself; nothing here needs a right.
SELECT current_setting('server_version')                            AS version,
       current_setting('server_encoding')                           AS encoding,
       current_user::text                                           AS role,
       pg_is_in_recovery()                                          AS in_recovery,
       current_setting('fsync') = 'on'                              AS fsync,
       current_setting('full_page_writes') = 'on'                   AS full_page_writes,
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS connections,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')     AS connected,
       pg_size_pretty(pg_database_size(current_database()))         AS size,
       clock_timestamp()                                            AS now
