-- Removing old events.

-- Remove at most p_chunk events of deleted gateways, with their outcomes, and return how many went. Nobody appends to
-- these logs, or reads them: their streams are gone.
CREATE OR REPLACE FUNCTION gatecast.remove_forgotten_v1(p_chunk integer) RETURNS bigint LANGUAGE plpgsql SET jit = off AS $$
DECLARE
    forgotten bigint;
    cut bigint;
    removed bigint := 0;
    wanted bigint;
    found_here bigint;
BEGIN
    FOR forgotten IN SELECT f.log_id FROM gatecast.forgotten_logs f ORDER BY f.log_id LIMIT p_chunk LOOP
        EXIT WHEN removed >= p_chunk;
        wanted := p_chunk - removed;
        SELECT max(c."offset"), count(*) INTO cut, found_here FROM (
            SELECT e."offset" FROM gatecast.events e WHERE e.log_id = forgotten ORDER BY e."offset" LIMIT wanted) c;
        DELETE FROM gatecast.outcomes o WHERE o.log_id = forgotten AND o."offset" <= cut;
        DELETE FROM gatecast.passages t WHERE t.log_id = forgotten AND t.through <= cut;
        DELETE FROM gatecast.events e WHERE e.log_id = forgotten AND e."offset" <= cut;
        IF found_here < wanted THEN
            DELETE FROM gatecast.outcomes o WHERE o.log_id = forgotten;
            DELETE FROM gatecast.passages t WHERE t.log_id = forgotten;
            DELETE FROM gatecast.forgotten_logs f WHERE f.log_id = forgotten;
        END IF;
        removed := removed + found_here;
    END LOOP;
    RETURN removed;
END $$;

-- Lock a log, waiting at most 100 ms for the transaction that holds it; false if that was not enough.
CREATE OR REPLACE FUNCTION gatecast.wait_for_log_v1(p_gateway_id text, p_log_id bigint) RETURNS boolean
LANGUAGE plpgsql SET lock_timeout = '100ms' SET jit = off AS $$
BEGIN
    PERFORM FROM gatecast.gateway_streams s WHERE s.gateway_id = p_gateway_id AND s.log_id = p_log_id FOR UPDATE;
    RETURN FOUND;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END $$;

-- How many of the oldest events of a log may go, up to p_head and at most p_room, and the last of them.
CREATE OR REPLACE FUNCTION gatecast.old_events_v1(
    p_gateway_id text, p_log_id bigint, p_trimmed_through bigint, p_head bigint, p_keep_confirmed interval,
    p_keep_at_most interval, p_max_events bigint, p_room bigint, OUT through bigint, OUT events bigint
) LANGUAGE plpgsql SET jit = off AS $$
DECLARE
    -- Parked and held events are confirmed, but not handled.
    handled bigint := least(
        coalesce((SELECT min(c.confirmed) FROM gatecast.cursors c, gatecast.epoch e
                  WHERE c.gateway_id = p_gateway_id AND c.epoch = e.current), 0),
        (SELECT min(o."offset") - 1 FROM gatecast.outcomes o
         WHERE o.log_id = p_log_id AND o.kind IN ('parked', 'held', 'retried', 'skipped', 'undeliverable')));
BEGIN
    -- Only what fits is read: a chunk of every log would be read again for every chunk.
    SELECT max(w."offset"), count(*) INTO through, events FROM (
        -- Only an unbroken run from the front may go: retention leaves no holes (scenario S19).
        SELECT o."offset", bool_and(o."offset" <= p_head - p_max_events
                                    OR o.recorded_at < now() - p_keep_at_most
                                    OR (o."offset" <= handled AND o.recorded_at < now() - p_keep_confirmed))
                           OVER (ORDER BY o."offset") AS goes
        FROM (SELECT e."offset", e.recorded_at FROM gatecast.events e
              WHERE e.log_id = p_log_id AND e."offset" > p_trimmed_through AND e."offset" <= p_head
              ORDER BY e."offset" LIMIT p_room) o) w
    WHERE w.goes;
END $$;

-- Remove at most one chunk of old events; those of deleted gateways go first. Lets nothing slip through: it locks a log
-- before it reads what of it may go, so that no replica connects meanwhile, and a later writer of outcomes sees what was
-- removed.
--
-- Skips logs that are being written to. But one that is written to all the time would grow for ever; so with p_waits it
-- waits for a log that could fill the chunk: for one in each call, because one transaction may hold many, and before it
-- has locked another one, so that nobody who publishes there waits as well.
--
-- A pass over the logs continues with the log of p_gateway_id, of which it takes what is not after p_head. Where the
-- next call continues is NULL if no log was left, or if another pod is trimming.
CREATE OR REPLACE FUNCTION gatecast.trim_events_v2(
    p_keep_confirmed interval, p_keep_at_most interval, p_max_events bigint, p_chunk integer, p_gateway_id text,
    p_head bigint, p_waits boolean, OUT removed bigint, OUT next_gateway_id text, OUT next_head bigint
) LANGUAGE plpgsql
-- Without statistics, after many events at once, a log would be read as a whole for its first chunk. And logs are read
-- in their order, only until the chunk is full.
SET enable_bitmapscan = off SET enable_sort = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
DECLARE
    removable record;
    run record;
    forgotten_events bigint;
    is_locked boolean;
    has_waited boolean := false;
    gateway_ids text[] := '{}';
    cuts bigint[] := '{}';
    losers text[];
    replicas text[];
BEGIN
    removed := 0;
    IF NOT pg_try_advisory_xact_lock(hashtext('gatecast.trim_events')) THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relname = 'gatecast_outbox_forwarder' AND c.relkind = 'r') THEN
        -- Of an outbox only what was forwarded may go: a pod of before knows nothing of that, and has a cap.
        p_keep_at_most := interval '5000 years';
        p_max_events := 9223372036854775807;
    END IF;
    forgotten_events := gatecast.remove_forgotten_v1(p_chunk);
    removed := forgotten_events;
    IF removed >= p_chunk THEN
        next_gateway_id := p_gateway_id;
        next_head := p_head;
        RETURN;
    END IF;
    FOR removable IN
        SELECT l.* FROM (
            SELECT s.gateway_id, s.log_id, s.trimmed_through,
                   CASE WHEN s.gateway_id = p_gateway_id THEN least(s.head, p_head) ELSE s.head END AS head,
                   least(coalesce(
                (SELECT min(c.confirmed) FROM gatecast.cursors c, gatecast.epoch e
                 WHERE c.gateway_id = s.gateway_id AND c.epoch = e.current), 0),
                (SELECT min(o."offset") - 1 FROM gatecast.outcomes o
                 WHERE o.log_id = s.log_id AND o.kind IN ('parked', 'held', 'retried', 'skipped', 'undeliverable'))) AS handled
            FROM gatecast.gateway_streams s WHERE s.gateway_id >= p_gateway_id AND s.head > s.trimmed_through
        ) l CROSS JOIN LATERAL (
            SELECT e.recorded_at FROM gatecast.events e
            WHERE e.log_id = l.log_id AND e."offset" > l.trimmed_through ORDER BY e."offset" LIMIT 1) oldest
        WHERE l.head > l.trimmed_through AND (
            l.head - l.trimmed_through > p_max_events
            OR oldest.recorded_at < now() - p_keep_at_most
            OR (oldest.recorded_at < now() - p_keep_confirmed AND l.handled > l.trimmed_through))
        ORDER BY l.gateway_id
    LOOP
        PERFORM FROM gatecast.gateway_streams s
        WHERE s.gateway_id = removable.gateway_id AND s.log_id = removable.log_id FOR UPDATE OF s SKIP LOCKED;
        is_locked := FOUND;
        run := gatecast.old_events_v1(removable.gateway_id, removable.log_id, removable.trimmed_through, removable.head,
                                      p_keep_confirmed, p_keep_at_most, p_max_events, p_chunk - removed);
        IF p_waits AND NOT is_locked AND run.events = p_chunk - removed THEN
            IF has_waited OR gateway_ids <> '{}' THEN
                -- The next call begins with it.
                next_gateway_id := removable.gateway_id;
                next_head := removable.head;
                EXIT;
            END IF;
            has_waited := true;
            is_locked := gatecast.wait_for_log_v1(removable.gateway_id, removable.log_id);
            -- Anew: the transaction that it waited for may have connected a replica that has not confirmed them.
            run := gatecast.old_events_v1(removable.gateway_id, removable.log_id, removable.trimmed_through,
                                          removable.head, p_keep_confirmed, p_keep_at_most, p_max_events,
                                          p_chunk - removed);
        END IF;
        -- A log that cannot be locked must not use up the chunk of later logs.
        CONTINUE WHEN NOT is_locked OR run.events = 0;
        removed := removed + run.events;
        gateway_ids := gateway_ids || removable.gateway_id;
        cuts := cuts || run.through;
        IF removed >= p_chunk THEN
            next_gateway_id := removable.gateway_id;
            next_head := removable.head;
            EXIT;
        END IF;
    END LOOP;

    WITH held AS MATERIALIZED (
        SELECT s.gateway_id, s.log_id, c.through FROM unnest(gateway_ids, cuts) AS c(gateway_id, through)
        JOIN gatecast.gateway_streams s USING (gateway_id)
    ), lost AS (
        SELECT c.gateway_id, c.replica FROM held h JOIN gatecast.cursors c USING (gateway_id) WHERE EXISTS (
            SELECT FROM gatecast.outcomes o WHERE o.log_id = h.log_id AND o.replica = c.replica
              AND o."offset" <= h.through AND o.kind IN ('parked', 'held', 'retried', 'skipped', 'undeliverable'))
    ), forgotten AS (
        DELETE FROM gatecast.outcomes o USING held h WHERE o.log_id = h.log_id AND o."offset" <= h.through
    ), forgotten_passages AS (
        DELETE FROM gatecast.passages t USING held h WHERE t.log_id = h.log_id AND t.through <= h.through
    ), gone AS (
        DELETE FROM gatecast.events e USING held h WHERE e.log_id = h.log_id AND e."offset" <= h.through
        RETURNING e.log_id, e.changed_xid
    ), moved AS (
        UPDATE gatecast.gateway_streams s
        SET trimmed_through = h.through, trimmed_xid = greatest(s.trimmed_xid, g.last_xid)
        FROM held h LEFT JOIN (
            -- max() of these there is not before PostgreSQL 15.
            SELECT gone.log_id, (array_agg(gone.changed_xid ORDER BY gone.changed_xid DESC))[1] AS last_xid
            FROM gone GROUP BY gone.log_id) g ON g.log_id = h.log_id
        WHERE s.gateway_id = h.gateway_id
    )
    SELECT forgotten_events + (SELECT count(*) FROM gone), array_agg(l.gateway_id), array_agg(l.replica) INTO removed, losers, replicas
    FROM lost l;
    IF losers IS NOT NULL THEN
        PERFORM gatecast.lose_parked_v1(losers, replicas);
    END IF;
END $$;

-- How many events `trim_events_v2` removed; each call begins with the first log. For pods of an earlier release.
CREATE OR REPLACE FUNCTION gatecast.trim_events_v1(
    p_keep_confirmed interval, p_keep_at_most interval, p_max_events bigint, p_chunk integer
) RETURNS bigint LANGUAGE sql SET jit = off AS $$
    SELECT t.removed FROM gatecast.trim_events_v2(p_keep_confirmed, p_keep_at_most, p_max_events, p_chunk, '', 0, false) t
$$;
