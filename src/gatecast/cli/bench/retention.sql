-- name: fill
-- Insert $2 events for each of these gateways ($1), as if they had been published a month ago.
WITH grown AS (
    UPDATE gatecast.gateway_streams SET head = head + $2 WHERE gateway_id = ANY ($1::text[]) RETURNING log_id, head
)
INSERT INTO gatecast.events (log_id, "offset", event_id, type, action, entity_type, entity_id, payload, size,
                             originated_at, recorded_at)
SELECT g.log_id, g.head - $2 + n, gen_random_uuid(), 'api.updated', 'UPDATE', 'Api', 'api-1', '{}', 2,
       now() - interval '30 days', now() - interval '30 days'
FROM grown g CROSS JOIN generate_series(1, $2::integer) n
