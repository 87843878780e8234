-- name: summaries
-- One small row for each of these gateways, in one instant: no connection, event or position is read in full. A position
-- of an older epoch has confirmed nothing of this one.
WITH wanted AS MATERIALIZED (
    SELECT s.gateway_id, s.log_id, s.head, e.current
    FROM gatecast.gateway_streams s CROSS JOIN gatecast.epoch e
    WHERE s.gateway_id IN (SELECT jsonb_array_elements_text($1::text::jsonb))
), positions AS (
    SELECT c.gateway_id, min(c.confirmed) FILTER (WHERE c.epoch = w.current) AS confirmed,
           max(CASE WHEN c.epoch = w.current THEN c.resync_reason ELSE 'epoch' END) AS resync_reason,
           extract(epoch FROM max(c.updated_at))::float8 AS last_seen
    FROM gatecast.cursors c JOIN wanted w USING (gateway_id) GROUP BY c.gateway_id
), connected AS (
    SELECT n.gateway_id, string_agg(n.pod_id, chr(10)) AS pods
    FROM gatecast.connections n JOIN wanted w USING (gateway_id) JOIN gatecast.pods d USING (pod_id)
    WHERE d.lease_until > now() AND n.dismissal IS NULL GROUP BY n.gateway_id
)
SELECT w.gateway_id, w.head, greatest(0, w.head - coalesce(p.confirmed, 0)) AS lag,
       coalesce(p.resync_reason, '') AS resync_reason, p.last_seen, coalesce(n.pods, '') AS pods,
       greatest(0, coalesce(extract(epoch FROM clock_timestamp() - o.recorded_at), 0))::float8 AS lag_seconds,
       EXISTS (SELECT FROM gatecast.outcomes r
               WHERE r.log_id = w.log_id AND r.kind IN ('parked', 'undeliverable')) AS parked
FROM wanted w LEFT JOIN positions p USING (gateway_id) LEFT JOIN connected n USING (gateway_id)
    LEFT JOIN LATERAL (
        SELECT CASE WHEN isfinite(i.recorded_at) THEN i.recorded_at END AS recorded_at FROM gatecast.events i
        WHERE w.head > coalesce(p.confirmed, 0) AND i.log_id = w.log_id AND i."offset" > coalesce(p.confirmed, 0)
        ORDER BY i."offset" LIMIT 1) o ON true

-- name: counts
-- How many gateways stand alike, by the same rules, without those whose ids begin with $2: a few rows, so that a pod
-- that counts a hundred thousand gateways does nothing else for a moment at most.
WITH known AS MATERIALIZED (
    SELECT s.gateway_id, s.log_id, s.head FROM gatecast.gateway_streams s WHERE NOT starts_with(s.gateway_id, $2)
), positions AS (
    SELECT c.gateway_id, min(c.confirmed) FILTER (WHERE c.epoch = e.current) AS confirmed,
           bool_or(c.epoch <> e.current OR c.resync_reason <> '') AS resynchronizing
    FROM gatecast.cursors c CROSS JOIN gatecast.epoch e GROUP BY c.gateway_id
), connected AS (
    SELECT DISTINCT n.gateway_id FROM gatecast.connections n JOIN gatecast.pods d USING (pod_id)
    WHERE d.lease_until > now() AND n.dismissal IS NULL
), parked AS (
    SELECT DISTINCT r.log_id FROM gatecast.outcomes r WHERE r.kind IN ('parked', 'undeliverable')
), standing AS (
    SELECT coalesce(p.resynchronizing, false) AS resynchronizing, r.log_id IS NOT NULL AS parked,
           n.gateway_id IS NOT NULL AS connected, k.head > coalesce(p.confirmed, 0) AS lagging,
           greatest(0, coalesce(extract(epoch FROM clock_timestamp() - o.recorded_at), 0))::float8 AS lag_seconds
    FROM known k LEFT JOIN positions p USING (gateway_id) LEFT JOIN connected n USING (gateway_id)
        LEFT JOIN parked r USING (log_id) LEFT JOIN LATERAL (
            SELECT CASE WHEN isfinite(i.recorded_at) THEN i.recorded_at END AS recorded_at FROM gatecast.events i
            WHERE k.head > coalesce(p.confirmed, 0) AND i.log_id = k.log_id AND i."offset" > coalesce(p.confirmed, 0)
            ORDER BY i."offset" LIMIT 1) o ON true
)
SELECT count(*) AS gateways, s.resynchronizing, s.parked, s.connected, s.lagging, max(s.lag_seconds) AS lag_seconds
FROM standing s GROUP BY s.resynchronizing, s.parked, s.connected, s.lagging, s.lag_seconds < $1::float8

-- name: beginning_with
SELECT s.gateway_id FROM gatecast.gateway_streams s WHERE starts_with(s.gateway_id, $1)

-- name: latencies
-- For each gateway the newest four passages are read; the time of a passage's last event is exact.
SELECT t.confirmed_last - extract(epoch FROM e.recorded_at)::float8 AS seconds
-- One look at an index for each: a join would read the streams of all gateways.
FROM jsonb_array_elements_text($1::text::jsonb) w (gateway_id)
    CROSS JOIN LATERAL (SELECT f.log_id FROM gatecast.gateway_streams f WHERE f.gateway_id = w.gateway_id LIMIT 1) s
    CROSS JOIN LATERAL (
        SELECT p.confirmed_through, p.confirmed_last FROM gatecast.passages p WHERE p.log_id = s.log_id
        ORDER BY p.through DESC, p.number DESC LIMIT 4) t
    JOIN gatecast.events e ON e.log_id = s.log_id AND e."offset" = t.confirmed_through
WHERE t.confirmed_through > 0 AND t.confirmed_last >= $2 AND isfinite(e.recorded_at)

-- name: ends
-- What a log holds now: the events after the first offset, up to the second.
SELECT trimmed_through, head FROM gatecast.gateway_streams WHERE gateway_id = $1

-- name: recorded_before
-- The last offset that was recorded before an instant, found by halves: of a million events about twenty are looked at.
WITH RECURSIVE log AS (
    SELECT log_id, trimmed_through, head FROM gatecast.gateway_streams WHERE gateway_id = $1
), half(low, high) AS (
    SELECT trimmed_through, head FROM log
    UNION ALL
    SELECT CASE WHEN e.recorded_at < $2 THEN e."offset" ELSE h.low END,
           CASE WHEN e.recorded_at < $2 THEN h.high ELSE e."offset" - 1 END
    FROM half h CROSS JOIN log l
        JOIN gatecast.events e ON e.log_id = l.log_id AND e."offset" = (h.low + h.high + 1) / 2
    WHERE h.low < h.high
)
SELECT low AS "offset" FROM half ORDER BY high - low LIMIT 1

-- name: search
-- The newest that match, of those after $2 up to $3, bounded in rows and bytes. What became of an event follows the
-- rules of `gatecast.server.admin_api.waits.known`.
SELECT w.* FROM (
    SELECT m.*, sum(m.size) OVER (ORDER BY m."offset" DESC) AS bytes, count(*) OVER () AS matched FROM (
        SELECT e."offset", e.event_id, e.type, e.action, e.entity_type, e.entity_id, e.payload, e.size,
               CASE WHEN e.originated_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
                    THEN e.originated_at END AS originated_at,
               CASE WHEN e.recorded_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
                    THEN e.recorded_at END AS recorded_at, e.trace_parent
        FROM gatecast.events e
        WHERE e.log_id = (SELECT log_id FROM gatecast.gateway_streams WHERE gateway_id = $1) AND e."offset" > $2 AND e."offset" <= $3
          AND ($4::text = '' OR e.type = $4) AND ($5::text = '' OR e.entity_type = $5)
          AND ($6::text = '' OR e.entity_id = $6)
          AND CASE $7::text
              WHEN '' THEN true
              WHEN 'rejected' THEN EXISTS (
                  SELECT FROM gatecast.outcomes o WHERE o.log_id = e.log_id AND o."offset" = e."offset"
                      AND o.kind IN ('rejected', 'parked', 'skipped', 'undeliverable', 'omitted'))
              WHEN 'applied' THEN EXISTS (
                  SELECT FROM gatecast.outcomes o WHERE o.log_id = e.log_id AND o."offset" = e."offset"
                      AND o.kind = 'applied') AND NOT EXISTS (
                  SELECT FROM gatecast.outcomes o WHERE o.log_id = e.log_id AND o."offset" = e."offset"
                      AND o.kind IN ('rejected', 'parked', 'skipped', 'undeliverable', 'omitted'))
              WHEN 'confirmed' THEN e."offset" <= $8 AND NOT EXISTS (
                  SELECT FROM gatecast.outcomes o WHERE o.log_id = e.log_id AND o."offset" = e."offset")
              ELSE NOT EXISTS (
                  SELECT FROM gatecast.outcomes o WHERE o.log_id = e.log_id AND o."offset" = e."offset"
                      AND o.kind IN ('applied', 'rejected', 'parked', 'skipped', 'undeliverable', 'omitted')) AND (e."offset" > $8 OR EXISTS (
                  SELECT FROM gatecast.outcomes o WHERE o.log_id = e.log_id AND o."offset" = e."offset"))
              END
        ORDER BY e."offset" DESC LIMIT $9) m) w
WHERE w.bytes <= $10 OR w.bytes = w.size
ORDER BY w."offset" DESC
