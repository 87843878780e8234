-- Appending to logs.
--
-- The row of gateway_streams is the lock of its gateway's log. Its holder has seen every earlier commit of that log,
-- and nobody else can number events until it commits: commit order is offset order, so a reader that asks for
-- `offset > cursor` can never skip a late commit.
--
-- Both functions lock before they read. In READ COMMITTED each statement of a function has a snapshot of its own, so
-- the read after the lock sees what the previous holder committed; a "check, then insert" in one statement does not.
--
-- Both raise `synchronous_commit` to `on` where a role or database has it lower: a receipt means that it is on disk (P1).
-- They set it for the transaction, because a SET clause ends with its function, before the commit.

-- Wakes the pods: one notification for one statement, at commit. `*` when the names do not fit (8,000 bytes), and for
-- everything (NULL). Not if the caller has set `SET LOCAL gatecast.hints = off`, which a prepared transaction needs:
-- PREPARE TRANSACTION refuses transactions that notified.
--
-- A hint may be lost; its events must not be. A full queue of notifications makes the commit fail, and it fills up when
-- any session of the server listens within an open transaction. So a queue that is half full gets no more hints: pods
-- that hear nothing poll.
CREATE OR REPLACE FUNCTION gatecast.hint_v1(gateway_ids text[]) RETURNS void LANGUAGE plpgsql SET jit = off AS $$
DECLARE
    names text := to_json(gateway_ids)::text;
BEGIN
    IF current_setting('gatecast.hints', true) IS DISTINCT FROM 'off' AND pg_notification_queue_usage() < 0.5 THEN
        PERFORM pg_notify('gatecast', CASE WHEN octet_length(names) < 7900 THEN names ELSE '*' END);
    END IF;
EXCEPTION WHEN OTHERS THEN
    RAISE LOG 'gatecast: a hint was lost: %', SQLERRM;
END $$;

-- The first and the last instant that a datetime can hold come from asyncpg as -infinity and infinity: what is stored
-- is what was meant. Explicit infinities were refused before.

-- Append one event. Status: stored, duplicate, unknown (no such gateway), busy (its log is held and wait is false).
CREATE OR REPLACE FUNCTION gatecast.append_event_v1(
    p_gateway_id text, p_event_id uuid, p_type text, p_action text, p_entity_type text, p_entity_id text,
    p_payload text, p_originated_at timestamptz, p_trace_parent text, p_wait boolean, p_hint boolean,
    OUT status text, OUT epoch uuid, OUT "offset" bigint
) LANGUAGE plpgsql SET jit = off AS $$
#variable_conflict use_column
DECLARE
    log bigint;
BEGIN
    IF current_setting('synchronous_commit') IN ('off', 'local') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    IF NOT p_wait THEN
        PERFORM FROM gatecast.gateway_streams WHERE gateway_id = p_gateway_id FOR NO KEY UPDATE SKIP LOCKED;
        IF NOT FOUND THEN
            PERFORM FROM gatecast.gateway_streams WHERE gateway_id = p_gateway_id;
            status := CASE WHEN FOUND THEN 'busy' ELSE 'unknown' END;
            RETURN;
        END IF;
    END IF;
    UPDATE gatecast.gateway_streams s
    SET head = s.head + 1, last_event_id = p_event_id, changed_xid = pg_current_xact_id()
    WHERE s.gateway_id = p_gateway_id RETURNING s.head, s.log_id INTO append_event_v1."offset", log;
    IF NOT FOUND THEN
        status := 'unknown';
        RETURN;
    END IF;
    SELECT e.current INTO append_event_v1.epoch FROM gatecast.epoch e;
    INSERT INTO gatecast.events (log_id, "offset", event_id, type, action, entity_type, entity_id,
                                 payload, size, originated_at, trace_parent)
    VALUES (log, append_event_v1."offset", p_event_id, p_type, p_action, p_entity_type, p_entity_id,
            p_payload, octet_length(p_payload),
            least(greatest(p_originated_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00'), p_trace_parent)
    ON CONFLICT ON CONSTRAINT events_event_id DO NOTHING;
    IF FOUND THEN
        status := 'stored';
        IF p_hint THEN
            PERFORM gatecast.hint_v1(ARRAY[p_gateway_id]);
        END IF;
    ELSE
        -- Give the number back: we hold the log's lock, so nobody has seen it. The previous event exists: retention
        -- removes from the front, and the older event with this id is still there.
        UPDATE gatecast.gateway_streams s
        SET head = s.head - 1,
            last_event_id = (SELECT e.event_id FROM gatecast.events e WHERE e.log_id = log AND e."offset" = s.head - 1)
        WHERE s.gateway_id = p_gateway_id;
        SELECT e."offset" INTO append_event_v1."offset" FROM gatecast.events e
        WHERE e.log_id = log AND e.event_id = p_event_id;
        status := 'duplicate';
    END IF;
END $$;

-- Append events to logs that the caller has locked (`held` with their numbers), even if some are refused or repeated:
-- see `append_events_v1`, which calls this for such cases.
CREATE OR REPLACE FUNCTION gatecast.append_locked_v1(
    p_groups integer[], p_gateway_ids text[], p_event_ids uuid[], p_types text[], p_actions text[],
    p_entity_types text[], p_entity_ids text[], p_originated_at timestamptz[], p_trace_parents text[],
    p_payload_numbers integer[], p_payloads text[], p_wait boolean, held text[], logs bigint[]
) RETURNS TABLE (number bigint, status text, culprit text, epoch uuid, "offset" bigint)
LANGUAGE plpgsql SET jit = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH target AS MATERIALIZED (
        -- The scalar subquery keeps this an index lookup for each event, whatever the statistics say.
        SELECT t.*, h.log_id, (SELECT e."offset" FROM gatecast.events e
                               WHERE e.log_id = h.log_id AND e.event_id = t.event_id) AS known_offset
        FROM unnest(p_groups, p_gateway_ids, p_event_ids, p_types, p_actions, p_entity_types, p_entity_ids,
                    p_originated_at, p_trace_parents, p_payload_numbers) WITH ORDINALITY
            AS t(group_number, gateway_id, event_id, type, action, entity_type, entity_id,
                 originated_at, trace_parent, payload_number, number)
             LEFT JOIN unnest(held, logs) AS h(gateway_id, log_id) ON h.gateway_id = t.gateway_id
    ), refused AS MATERIALIZED (
        SELECT t.group_number, min(t.gateway_id) AS gateway_id FROM target t
        WHERE t.log_id IS NULL GROUP BY t.group_number
    ), fresh AS MATERIALIZED (
        SELECT DISTINCT ON (t.gateway_id, t.event_id) t.* FROM target t
        WHERE t.known_offset IS NULL AND NOT EXISTS (SELECT FROM refused r WHERE r.group_number = t.group_number)
        ORDER BY t.gateway_id, t.event_id, t.number
    ), bumped AS (
        UPDATE gatecast.gateway_streams s
        SET head = s.head + c.events, last_event_id = c.last_event_id, changed_xid = pg_current_xact_id()
        FROM (SELECT f.gateway_id, count(*) AS events, (array_agg(f.event_id ORDER BY f.number DESC))[1] AS last_event_id
              FROM fresh f GROUP BY f.gateway_id) c
        -- Said once more, so that streams are looked up by key, whatever joins them.
        WHERE s.gateway_id = c.gateway_id AND s.gateway_id = ANY (held)
        RETURNING s.gateway_id, s.head - c.events AS base
    ), numbered AS MATERIALIZED (
        SELECT f.*, b.base + row_number() OVER (PARTITION BY f.gateway_id ORDER BY f.number) AS new_offset
        FROM fresh f JOIN bumped b USING (gateway_id)
    ), stored AS (
        INSERT INTO gatecast.events (log_id, "offset", event_id, type, action, entity_type, entity_id,
                                     payload, size, originated_at, trace_parent)
        SELECT n.log_id, n.new_offset, n.event_id, n.type, n.action, n.entity_type, n.entity_id,
               p.payload, octet_length(p.payload),
               least(greatest(n.originated_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00'), n.trace_parent
        FROM numbered n JOIN unnest(p_payloads) WITH ORDINALITY AS p(payload, payload_number) USING (payload_number)
        ORDER BY n.gateway_id, n.new_offset
    )
    SELECT t.number,
           CASE WHEN r.group_number IS NULL THEN CASE WHEN n.number = t.number THEN 'stored' ELSE 'duplicate' END
                -- A caller that waited holds every log there was: a log that appeared since then came too late.
                WHEN p_wait OR NOT EXISTS (SELECT FROM gatecast.gateway_streams s WHERE s.gateway_id = r.gateway_id)
                THEN 'unknown' ELSE 'busy' END,
           r.gateway_id::text, e.current, coalesce(t.known_offset, n.new_offset)
    FROM target t CROSS JOIN gatecast.epoch e
         LEFT JOIN refused r USING (group_number)
         LEFT JOIN numbered n ON n.gateway_id = t.gateway_id AND n.event_id = t.event_id
    ORDER BY t.number;
END $$;

-- Append many events in groups that are stored whole or not at all. Element i of each array describes event i;
-- p_payload_numbers points into p_payloads, so that a fan-out carries its payload once. Returns one row for each
-- event, in order. Status: stored, duplicate, or why its group was refused: unknown or busy, with the gateway at fault
-- as `culprit`.
CREATE OR REPLACE FUNCTION gatecast.append_events_v1(
    p_groups integer[], p_gateway_ids text[], p_event_ids uuid[], p_types text[], p_actions text[],
    p_entity_types text[], p_entity_ids text[], p_originated_at timestamptz[], p_trace_parents text[],
    p_payload_numbers integer[], p_payloads text[], p_wait boolean, p_hint boolean
) RETURNS TABLE (number bigint, status text, culprit text, epoch uuid, "offset" bigint)
LANGUAGE plpgsql
-- Planning each call costs more than a batch of eight; every access below is by key, for any table size.
SET plan_cache_mode = force_generic_plan
-- A plan made while a log was small would scan it, and be kept when it has grown. One for few events would compare each
-- event with each other one, and be kept for a fan-out to thousands of gateways.
SET enable_seqscan = off SET enable_nestloop = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    held text[];
    logs bigint[];
    heads bigint[];
    grown text[];
    plain boolean;
BEGIN
    IF current_setting('synchronous_commit') IN ('off', 'local') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    -- One global lock order, by id: two batches can never deadlock. The heads come from the rows as they were locked:
    -- nobody moves them before we commit.
    IF p_wait THEN
        SELECT array_agg(l.gateway_id), array_agg(l.log_id), array_agg(l.head) INTO held, logs, heads FROM (
            SELECT gateway_id, log_id, head FROM gatecast.gateway_streams WHERE gateway_id = ANY (p_gateway_ids)
            ORDER BY gateway_id FOR NO KEY UPDATE) l;
    ELSE
        SELECT array_agg(l.gateway_id), array_agg(l.log_id), array_agg(l.head) INTO held, logs, heads FROM (
            SELECT gateway_id, log_id, head FROM gatecast.gateway_streams WHERE gateway_id = ANY (p_gateway_ids)
            ORDER BY gateway_id FOR NO KEY UPDATE SKIP LOCKED) l;
    END IF;
    -- After the locks, so this sees what their previous holders committed. The scalar subquery keeps it an index lookup
    -- for each event, whatever the statistics say.
    SELECT count(*) = cardinality(p_event_ids) AND count(l.log_id) = count(*) AND count(l.known) = 0 INTO plain FROM (
        SELECT h.log_id, (SELECT e."offset" FROM gatecast.events e
                          WHERE e.log_id = h.log_id AND e.event_id = t.event_id) AS known
        FROM (SELECT DISTINCT u.gateway_id, u.event_id
              FROM unnest(p_gateway_ids, p_event_ids) AS u(gateway_id, event_id)) t
             LEFT JOIN unnest(held, logs) AS h(gateway_id, log_id) ON h.gateway_id = t.gateway_id) l;
    IF plain THEN
        -- As nearly always: every gateway has a log that we hold, and every event is new.
        grown := held;
        RETURN QUERY
        WITH numbered AS MATERIALIZED (
            SELECT t.*, h.log_id, h.head + row_number() OVER (PARTITION BY t.gateway_id ORDER BY t.number) AS new_offset
            FROM unnest(p_gateway_ids, p_event_ids, p_types, p_actions, p_entity_types, p_entity_ids, p_originated_at,
                        p_trace_parents, p_payload_numbers) WITH ORDINALITY
                AS t(gateway_id, event_id, type, action, entity_type, entity_id,
                     originated_at, trace_parent, payload_number, number)
                 JOIN unnest(held, logs, heads) AS h(gateway_id, log_id, head) ON h.gateway_id = t.gateway_id
        ), stored AS (
            INSERT INTO gatecast.events (log_id, "offset", event_id, type, action, entity_type, entity_id,
                                         payload, size, originated_at, trace_parent)
            SELECT n.log_id, n.new_offset, n.event_id, n.type, n.action, n.entity_type, n.entity_id,
                   p.payload, octet_length(p.payload),
                   least(greatest(n.originated_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00'),
                   n.trace_parent
            FROM numbered n JOIN unnest(p_payloads) WITH ORDINALITY AS p(payload, payload_number) USING (payload_number)
            ORDER BY n.gateway_id, n.new_offset
        ), bumped AS (
            UPDATE gatecast.gateway_streams s
            SET head = c.head, last_event_id = c.event_id, changed_xid = pg_current_xact_id()
            FROM (SELECT DISTINCT ON (n.gateway_id) n.gateway_id, n.new_offset AS head, n.event_id
                  FROM numbered n ORDER BY n.gateway_id, n.new_offset DESC) c
            -- Said once more, so that streams are looked up by key, whatever joins them.
            WHERE s.gateway_id = c.gateway_id AND s.gateway_id = ANY (held)
        )
        SELECT n.number, 'stored', NULL::text, e.current, n.new_offset FROM numbered n CROSS JOIN gatecast.epoch e
        ORDER BY n.number;
    ELSE
        RETURN QUERY SELECT a.* FROM gatecast.append_locked_v1(
            p_groups, p_gateway_ids, p_event_ids, p_types, p_actions, p_entity_types, p_entity_ids, p_originated_at,
            p_trace_parents, p_payload_numbers, p_payloads, p_wait, held, logs) a;
        SELECT array_agg(s.gateway_id) INTO grown
        FROM unnest(held) AS h(gateway_id) JOIN gatecast.gateway_streams s USING (gateway_id)
        WHERE s.changed_xid = pg_current_xact_id();
    END IF;
    IF p_hint AND grown IS NOT NULL THEN
        PERFORM gatecast.hint_v1(grown);
    END IF;
END $$;

-- Publish from any language, inside the caller's own transaction. Returns the offset; publishing the same event id
-- again returns the first one. Refuses what the library refuses (see grammar.sql), and stores the data as it was written.
CREATE OR REPLACE FUNCTION gatecast.publish(
    gateway_id text, type text, action text, entity_type text, entity_id text, data json DEFAULT '{}',
    event_id uuid DEFAULT gen_random_uuid(), originated_at timestamptz DEFAULT clock_timestamp(),
    trace_parent text DEFAULT NULL
) RETURNS bigint LANGUAGE plpgsql SET jit = off AS $$
DECLARE
    known_id constant text := gatecast.clean_identifier_v1('gateway_id', publish.gateway_id);
    appended record;
BEGIN
    IF publish.action IS NULL OR publish.action NOT IN ('CREATE', 'UPDATE', 'DELETE', 'PROVISION', 'REVOKE') THEN
        RAISE EXCEPTION 'action must be one of CREATE, UPDATE, DELETE, PROVISION, REVOKE; got %', publish.action
            USING ERRCODE = 'check_violation';
    END IF;
    PERFORM gatecast.check_data_v1(publish.data);
    SELECT * INTO appended FROM gatecast.append_event_v1(
        known_id, coalesce(publish.event_id, gen_random_uuid()),
        gatecast.clean_identifier_v1('type', publish.type), publish.action,
        gatecast.clean_identifier_v1('entity_type', publish.entity_type),
        gatecast.clean_identifier_v1('entity_id', publish.entity_id), publish.data::text,
        gatecast.clean_instant_v1('originated_at', coalesce(publish.originated_at, clock_timestamp())),
        gatecast.clean_trace_parent_v1('trace_parent', publish.trace_parent), true, true);
    IF appended.status = 'unknown' THEN
        RAISE EXCEPTION 'gateway "%" is not registered', known_id USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN appended."offset";
END $$;

-- The same for data of the other two types: a driver that says nothing of a parameter's type, as most do, gets `text`.
-- Their data has no default, so that a call without data means the function above.
CREATE OR REPLACE FUNCTION gatecast.publish(
    gateway_id text, type text, action text, entity_type text, entity_id text, data text,
    event_id uuid DEFAULT NULL, originated_at timestamptz DEFAULT NULL, trace_parent text DEFAULT NULL
) RETURNS bigint LANGUAGE sql SET jit = off AS $$
    SELECT gatecast.publish(gateway_id, type, action, entity_type, entity_id, data::json, event_id, originated_at,
                            trace_parent)
$$;

CREATE OR REPLACE FUNCTION gatecast.publish(
    gateway_id text, type text, action text, entity_type text, entity_id text, data jsonb,
    event_id uuid DEFAULT NULL, originated_at timestamptz DEFAULT NULL, trace_parent text DEFAULT NULL
) RETURNS bigint LANGUAGE sql SET jit = off AS $$
    SELECT gatecast.publish(gateway_id, type, action, entity_type, entity_id, data::json, event_id, originated_at,
                            trace_parent)
$$;

-- Create an empty log for a gateway, inside the caller's own transaction; false if it has one already.
CREATE OR REPLACE FUNCTION gatecast.register_gateway(gateway_id text) RETURNS boolean LANGUAGE plpgsql SET jit = off AS $$
DECLARE
    known_id constant text := gatecast.clean_identifier_v1('gateway_id', register_gateway.gateway_id);
BEGIN
    INSERT INTO gatecast.gateway_streams (gateway_id, registered_in) SELECT known_id, e.current FROM gatecast.epoch e
    ON CONFLICT DO NOTHING;
    RETURN FOUND;
END $$;
