-- name: summaries
-- One small row for each of these gateways, in one instant: no connection, event or position is read in full. A position
-- of an older epoch has confirmed nothing of this one.
WITH positions AS (
    SELECT c.gateway_id, min(c.confirmed) FILTER (WHERE c.epoch = epoch.current) AS confirmed,
           max(CASE WHEN c.epoch = epoch.current THEN c.resync_reason ELSE 'epoch' END) AS resync_reason,
           (julianday(max(c.updated_at)) - 2440587.5) * 86400.0 AS last_seen
    FROM gatecast_cursors AS c CROSS JOIN gatecast_epoch AS epoch
    WHERE c.gateway_id IN (SELECT value FROM json_each($1)) GROUP BY c.gateway_id
), connected AS (
    SELECT n.gateway_id, group_concat(n.pod_id, char(10)) AS pods
    FROM gatecast_connections AS n JOIN gatecast_pods AS d ON d.pod_id = n.pod_id AND d.lease_until > now()
    WHERE n.gateway_id IN (SELECT value FROM json_each($1)) AND n.dismissal IS NULL GROUP BY n.gateway_id
)
SELECT s.gateway_id, s.head, max(0, s.head - coalesce(p.confirmed, 0)) AS lag,
       coalesce(p.resync_reason, '') AS resync_reason, p.last_seen, coalesce(n.pods, '') AS pods,
       max(0.0, coalesce((julianday(now()) - julianday((
           SELECT e.recorded_at FROM gatecast_events AS e
           WHERE s.head > coalesce(p.confirmed, 0) AND e.log_id = s.log_id AND e."offset" > coalesce(p.confirmed, 0)
           ORDER BY e."offset" LIMIT 1))) * 86400.0, 0.0)) AS lag_seconds,
       EXISTS (SELECT 1 FROM gatecast_outcomes AS r
               WHERE r.log_id = s.log_id AND r.kind IN ('parked', 'undeliverable')
                   -- Said once more in the words of the index, so that it is used.
                   AND r.kind IN ('parked', 'held', 'retried', 'skipped', 'released', 'rejected', 'undeliverable', 'omitted')
              ) AS parked
FROM gatecast_gateway_streams AS s LEFT JOIN positions AS p ON p.gateway_id = s.gateway_id
    LEFT JOIN connected AS n ON n.gateway_id = s.gateway_id
WHERE s.gateway_id IN (SELECT value FROM json_each($1))

-- name: counts
-- How many gateways stand alike, by the same rules, without those whose ids begin with $2.
WITH positions AS (
    SELECT c.gateway_id, min(c.confirmed) FILTER (WHERE c.epoch = epoch.current) AS confirmed,
           max(c.epoch <> epoch.current OR c.resync_reason <> '') AS resynchronizing
    FROM gatecast_cursors AS c CROSS JOIN gatecast_epoch AS epoch GROUP BY c.gateway_id
), connected AS (
    SELECT DISTINCT n.gateway_id
    FROM gatecast_connections AS n JOIN gatecast_pods AS d ON d.pod_id = n.pod_id AND d.lease_until > now()
    WHERE n.dismissal IS NULL
), parked AS (
    SELECT DISTINCT r.log_id FROM gatecast_outcomes AS r
    WHERE r.kind IN ('parked', 'undeliverable')
        -- Said once more in the words of the index, so that it is used.
        AND r.kind IN ('parked', 'held', 'retried', 'skipped', 'released', 'rejected', 'undeliverable', 'omitted')
), standing AS (
    SELECT coalesce(p.resynchronizing, 0) AS resynchronizing, r.log_id IS NOT NULL AS parked,
           n.gateway_id IS NOT NULL AS connected, s.head > coalesce(p.confirmed, 0) AS lagging,
           max(0.0, coalesce((julianday(now()) - julianday((
               SELECT e.recorded_at FROM gatecast_events AS e
               WHERE s.head > coalesce(p.confirmed, 0) AND e.log_id = s.log_id AND e."offset" > coalesce(p.confirmed, 0)
               ORDER BY e."offset" LIMIT 1))) * 86400.0, 0.0)) AS lag_seconds
    FROM gatecast_gateway_streams AS s LEFT JOIN positions AS p ON p.gateway_id = s.gateway_id
        LEFT JOIN connected AS n ON n.gateway_id = s.gateway_id LEFT JOIN parked AS r ON r.log_id = s.log_id
    WHERE substr(s.gateway_id, 1, length($2)) <> $2
)
SELECT count(*) AS gateways, resynchronizing, parked, connected, lagging, max(lag_seconds) AS lag_seconds
FROM standing GROUP BY resynchronizing, parked, connected, lagging, lag_seconds < $1

-- name: beginning_with
SELECT gateway_id FROM gatecast_gateway_streams WHERE substr(gateway_id, 1, length($1)) = $1

-- name: latencies
-- For each gateway the newest four passages are read; the time of a passage's last event is exact.
SELECT t.confirmed_last - (julianday(e.recorded_at) - 2440587.5) * 86400.0 AS seconds
FROM gatecast_gateway_streams AS s
    CROSS JOIN gatecast_passages AS t ON t.log_id = s.log_id AND t.number IN (
        SELECT p.number FROM gatecast_passages AS p WHERE p.log_id = s.log_id ORDER BY p.through DESC, p.number DESC LIMIT 4)
    CROSS JOIN gatecast_events AS e ON e.log_id = s.log_id AND e."offset" = t.confirmed_through
WHERE s.gateway_id IN (SELECT value FROM json_each($1)) AND t.confirmed_through > 0 AND t.confirmed_last >= $2

-- name: ends
-- What a log holds now: the events after the first offset, up to the second.
SELECT trimmed_through, head FROM gatecast_gateway_streams WHERE gateway_id = $1

-- name: recorded_before
-- The last offset that was recorded before an instant, found by halves: of a million events about twenty are looked at.
WITH RECURSIVE log AS (
    SELECT log_id, trimmed_through, head FROM gatecast_gateway_streams WHERE gateway_id = $1
), half(low, high) AS (
    SELECT trimmed_through, head FROM log
    UNION ALL
    SELECT CASE WHEN e.recorded_at < $2 THEN e."offset" ELSE h.low END,
           CASE WHEN e.recorded_at < $2 THEN h.high ELSE e."offset" - 1 END
    FROM half h CROSS JOIN log l
        JOIN gatecast_events e ON e.log_id = l.log_id AND e."offset" = (h.low + h.high + 1) / 2
    WHERE h.low < h.high
)
SELECT low AS "offset" FROM half ORDER BY high - low LIMIT 1

-- name: search
-- The newest that match, of those after $2 up to $3, bounded in rows and bytes. What became of an event follows the
-- rules of `gatecast.server.admin_api.waits.known`.
SELECT w.* FROM (
    SELECT m.*, sum(m.size) OVER (ORDER BY m."offset" DESC) AS bytes, count(*) OVER () AS matched FROM (
        SELECT e."offset", e.event_id, e.type, e.action, e.entity_type, e.entity_id, e.payload, e.size,
               e.originated_at, e.recorded_at, e.trace_parent
        FROM gatecast_events e
        WHERE e.log_id = (SELECT log_id FROM gatecast_gateway_streams WHERE gateway_id = $1) AND e."offset" > $2 AND e."offset" <= $3
          AND ($4 = '' OR e.type = $4) AND ($5 = '' OR e.entity_type = $5)
          AND ($6 = '' OR e.entity_id = $6)
          AND CASE $7
              WHEN '' THEN true
              WHEN 'rejected' THEN EXISTS (
                  SELECT 1 FROM gatecast_outcomes o WHERE o.log_id = e.log_id AND o."offset" = e."offset"
                      AND o.kind IN ('rejected', 'parked', 'skipped', 'undeliverable', 'omitted'))
              WHEN 'applied' THEN EXISTS (
                  SELECT 1 FROM gatecast_outcomes o WHERE o.log_id = e.log_id AND o."offset" = e."offset"
                      AND o.kind = 'applied') AND NOT EXISTS (
                  SELECT 1 FROM gatecast_outcomes o WHERE o.log_id = e.log_id AND o."offset" = e."offset"
                      AND o.kind IN ('rejected', 'parked', 'skipped', 'undeliverable', 'omitted'))
              WHEN 'confirmed' THEN e."offset" <= $8 AND NOT EXISTS (
                  SELECT 1 FROM gatecast_outcomes o WHERE o.log_id = e.log_id AND o."offset" = e."offset")
              ELSE NOT EXISTS (
                  SELECT 1 FROM gatecast_outcomes o WHERE o.log_id = e.log_id AND o."offset" = e."offset"
                      AND o.kind IN ('applied', 'rejected', 'parked', 'skipped', 'undeliverable', 'omitted')) AND (e."offset" > $8 OR EXISTS (
                  SELECT 1 FROM gatecast_outcomes o WHERE o.log_id = e.log_id AND o."offset" = e."offset"))
              END
        ORDER BY e."offset" DESC LIMIT $9) m) w
WHERE w.bytes <= $10 OR w.bytes = w.size
ORDER BY w."offset" DESC
