-- Reading logs.

-- The next events of a few gateways, as the statement `read` answers for many: planning that one takes longer than to run
-- it for a few. Its rows are gathered before they are sent, so the memory for them must be enough, or they go through
-- a file.
CREATE OR REPLACE FUNCTION gatecast.read_v1(
    p_gateway_ids text[], p_after bigint[], p_max_events integer[], p_max_bytes bigint[]
) RETURNS TABLE (
    number bigint, epoch uuid, server text, log_id bigint, head bigint, last_event_id uuid, trimmed_through bigint,
    "offset" bigint, event_id uuid, type text, action text, entity_type text, entity_id text, payload text,
    originated_at timestamptz, recorded_at timestamptz, trace_parent text
) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
-- A plan made while a log was small would scan it, and be kept when it has grown.
SET enable_seqscan = off SET enable_bitmapscan = off
SET work_mem = '32MB' SET jit = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT r.number, h.epoch, h.server, s.log_id, s.head, s.last_event_id, s.trimmed_through, e."offset", e.event_id,
           e.type, e.action, e.entity_type, e.entity_id, e.payload, e.originated_at, e.recorded_at, e.trace_parent
    FROM unnest(p_gateway_ids, p_after, p_max_events, p_max_bytes)
             WITH ORDINALITY AS r(gateway_id, after, max_events, max_bytes, number)
         CROSS JOIN gatecast.history_v1() h
         CROSS JOIN LATERAL (SELECT log_id, head, last_event_id, trimmed_through FROM gatecast.gateway_streams
                             WHERE gateway_id = r.gateway_id LIMIT 1) s
         LEFT JOIN LATERAL (
             SELECT w.* FROM (
                 SELECT i.*, sum(i.size) OVER (ORDER BY i."offset") AS bytes FROM (
                     SELECT "offset", event_id, type, action, entity_type, entity_id, payload, size,
                            CASE WHEN originated_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
                                 THEN originated_at END AS originated_at,
                            CASE WHEN recorded_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
                                 THEN recorded_at END AS recorded_at, trace_parent
                     FROM gatecast.events WHERE log_id = s.log_id AND "offset" > r.after
                     ORDER BY "offset" LIMIT r.max_events) i) w
             WHERE w.bytes <= r.max_bytes OR w.bytes = w.size) e ON true
    ORDER BY r.number, e."offset";
END $$;
