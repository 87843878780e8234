-- name: register
-- So many gateways ($1) with logs, as if they had been created one after the other.
WITH described AS (
    INSERT INTO gatecast_gateways (id, organization, name, display_name, description, vhost, type, connection_policy,
                                   properties, version, created_at, updated_at)
    SELECT gen_random_uuid()::text, g.organization, 'idle-' || n, g.display_name, g.description, g.vhost, g.type,
           g.connection_policy, g.properties, 1, now(), now()
    FROM (SELECT * FROM gatecast_gateways LIMIT 1) g CROSS JOIN generate_series(1, $1::integer) n
    RETURNING id
)
SELECT count(gatecast.register_gateway(id)) FROM described
