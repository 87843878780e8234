SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
CREATE SCHEMA gatecast;
CREATE FUNCTION gatecast.advance_positions(p_gateway_ids text[], p_replicas text[]) RETURNS void
    LANGUAGE sql
    AS $$
    UPDATE gatecast.cursors c
    SET sent = greatest(c.sent, s.sent), confirmed = greatest(c.confirmed, s.confirmed), updated_at = now()
    FROM (SELECT o.gateway_id, o.replica, max(o.sent) AS sent, min(o.confirmed) AS confirmed
          FROM gatecast.connections o
          WHERE (o.gateway_id, o.replica) IN (SELECT * FROM unnest(p_gateway_ids, p_replicas))
            AND NOT o.released AND o.dismissal IS NULL
          GROUP BY o.gateway_id, o.replica) s
    WHERE c.gateway_id = s.gateway_id AND c.replica = s.replica
      AND c.epoch = (SELECT e.current FROM gatecast.epoch e)
      AND (c.confirmed < s.confirmed OR c.sent < s.sent)
$$;
CREATE FUNCTION gatecast.append_event(p_gateway_id text, p_event_id uuid, p_type text, p_action text, p_entity_type text, p_entity_id text, p_payload text, p_originated_at timestamp with time zone, p_trace_parent text, p_wait boolean, p_hint boolean, OUT status text, OUT epoch uuid, OUT "offset" bigint) RETURNS record
    LANGUAGE plpgsql
    AS $$
#variable_conflict use_column
DECLARE
    log bigint;
BEGIN
    IF NOT p_wait THEN
        PERFORM FROM gatecast.gateway_streams WHERE gateway_id = p_gateway_id FOR NO KEY UPDATE SKIP LOCKED;
        IF NOT FOUND THEN
            PERFORM FROM gatecast.gateway_streams WHERE gateway_id = p_gateway_id;
            status := CASE WHEN FOUND THEN 'busy' ELSE 'unknown' END;
            RETURN;
        END IF;
    END IF;
    UPDATE gatecast.gateway_streams s SET head = s.head + 1, changed_xid = pg_current_xact_id()
    WHERE s.gateway_id = p_gateway_id RETURNING s.head, s.log_id INTO append_event."offset", log;
    IF NOT FOUND THEN
        status := 'unknown';
        RETURN;
    END IF;
    SELECT e.current INTO append_event.epoch FROM gatecast.epoch e;
    INSERT INTO gatecast.events (log_id, "offset", event_id, type, action, entity_type, entity_id,
                                 payload, size, originated_at, trace_parent)
    VALUES (log, append_event."offset", p_event_id, p_type, p_action, p_entity_type, p_entity_id,
            p_payload, octet_length(p_payload), p_originated_at, p_trace_parent)
    ON CONFLICT ON CONSTRAINT events_event_id DO NOTHING;
    IF FOUND THEN
        status := 'stored';
        IF p_hint THEN
            PERFORM gatecast.hint(ARRAY[p_gateway_id]);
        END IF;
    ELSE
        -- Give the number back: the log is locked by us, so nobody has seen it.
        UPDATE gatecast.gateway_streams s SET head = s.head - 1 WHERE s.gateway_id = p_gateway_id;
        SELECT e."offset" INTO append_event."offset" FROM gatecast.events e
        WHERE e.log_id = log AND e.event_id = p_event_id;
        status := 'duplicate';
    END IF;
END $$;
CREATE FUNCTION gatecast.append_events(p_groups integer[], p_gateway_ids text[], p_event_ids uuid[], p_types text[], p_actions text[], p_entity_types text[], p_entity_ids text[], p_originated_at timestamp with time zone[], p_trace_parents text[], p_payload_numbers integer[], p_payloads text[], p_wait boolean, p_hint boolean) RETURNS TABLE(number bigint, status text, culprit text, epoch uuid, "offset" bigint)
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    AS $$
#variable_conflict use_column
DECLARE
    held text[];
    logs bigint[];
    grown text[];
BEGIN
    -- One global lock order, by id: two batches can never wait for each other.
    IF p_wait THEN
        SELECT array_agg(l.gateway_id), array_agg(l.log_id) INTO held, logs FROM (
            SELECT gateway_id, log_id FROM gatecast.gateway_streams WHERE gateway_id = ANY (p_gateway_ids)
            ORDER BY gateway_id FOR NO KEY UPDATE) l;
    ELSE
        SELECT array_agg(l.gateway_id), array_agg(l.log_id) INTO held, logs FROM (
            SELECT gateway_id, log_id FROM gatecast.gateway_streams WHERE gateway_id = ANY (p_gateway_ids)
            ORDER BY gateway_id FOR NO KEY UPDATE SKIP LOCKED) l;
    END IF;
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
        UPDATE gatecast.gateway_streams s SET head = s.head + c.events, changed_xid = pg_current_xact_id()
        FROM (SELECT f.gateway_id, count(*) AS events FROM fresh f GROUP BY f.gateway_id) c
        WHERE s.gateway_id = c.gateway_id RETURNING s.gateway_id, s.head - c.events AS base
    ), numbered AS MATERIALIZED (
        SELECT f.*, b.base + row_number() OVER (PARTITION BY f.gateway_id ORDER BY f.number) AS new_offset
        FROM fresh f JOIN bumped b USING (gateway_id)
    ), stored AS (
        INSERT INTO gatecast.events (log_id, "offset", event_id, type, action, entity_type, entity_id,
                                     payload, size, originated_at, trace_parent)
        SELECT n.log_id, n.new_offset, n.event_id, n.type, n.action, n.entity_type, n.entity_id,
               p.payload, octet_length(p.payload), n.originated_at, n.trace_parent
        FROM numbered n JOIN unnest(p_payloads) WITH ORDINALITY AS p(payload, payload_number) USING (payload_number)
        ORDER BY n.gateway_id, n.new_offset
    )
    SELECT t.number,
           CASE WHEN r.group_number IS NULL THEN CASE WHEN n.number = t.number THEN 'stored' ELSE 'duplicate' END
                -- Whoever waited holds every log there was: one that appeared since then came too late.
                WHEN p_wait OR NOT EXISTS (SELECT FROM gatecast.gateway_streams s WHERE s.gateway_id = r.gateway_id)
                THEN 'unknown' ELSE 'busy' END,
           r.gateway_id::text, e.current, coalesce(t.known_offset, n.new_offset)
    FROM target t CROSS JOIN gatecast.epoch e
         LEFT JOIN refused r USING (group_number)
         LEFT JOIN numbered n ON n.gateway_id = t.gateway_id AND n.event_id = t.event_id
    ORDER BY t.number;
    IF p_hint THEN
        SELECT array_agg(s.gateway_id) INTO grown FROM gatecast.gateway_streams s
        WHERE s.gateway_id = ANY (held) AND s.changed_xid = pg_current_xact_id();
        IF grown IS NOT NULL THEN
            PERFORM gatecast.hint(grown);
        END IF;
    END IF;
END $$;
CREATE FUNCTION gatecast.connect(p_gateway_id text, p_replica text, p_connection_id text, p_pod_id text, p_protocol text, p_remote text, p_token_id text, p_epoch uuid, p_start bigint, p_newest_only boolean, p_resync_reason text) RETURNS boolean
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
BEGIN
    -- The key-share lock makes a concurrent deletion of the gateway wait, or makes us find it gone. A log that ends
    -- before the start is another one, of a gateway that was registered again.
    PERFORM FROM gatecast.gateway_streams s
    WHERE s.gateway_id = p_gateway_id AND s.head >= p_start AND p_epoch = (SELECT e.current FROM gatecast.epoch e)
    FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- The position first: it is the lock, so that two who connect at once do not overlook each other.
    INSERT INTO gatecast.cursors AS c (gateway_id, replica, epoch, sent, confirmed, resync_reason)
    VALUES (p_gateway_id, p_replica, p_epoch, p_start, p_start, p_resync_reason)
    ON CONFLICT (gateway_id, replica) DO UPDATE
    SET epoch = excluded.epoch, confirmed = excluded.confirmed, resync_reason = excluded.resync_reason, updated_at = now(),
        sent = CASE WHEN c.epoch = excluded.epoch THEN greatest(c.sent, excluded.sent) ELSE excluded.sent END
    -- Lost while it was on its way here: it has to come again to be told.
    WHERE c.resync_reason IS DISTINCT FROM 'parked' OR excluded.resync_reason IS NOT NULL;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF p_newest_only THEN
        UPDATE gatecast.connections o SET dismissal = 'superseded'
        WHERE o.gateway_id = p_gateway_id AND o.replica = p_replica AND o.dismissal IS NULL;
    ELSE
        UPDATE gatecast.cursors c SET confirmed = s.slowest
        FROM (SELECT min(o.confirmed) AS slowest
              FROM gatecast.connections o
              WHERE o.gateway_id = p_gateway_id AND o.replica = p_replica AND NOT o.released AND o.dismissal IS NULL) s
        WHERE c.gateway_id = p_gateway_id AND c.replica = p_replica AND c.confirmed > s.slowest;
    END IF;
    INSERT INTO gatecast.connections (connection_id, gateway_id, replica, pod_id, protocol, remote, token_id, sent,
                                      confirmed)
    VALUES (p_connection_id, p_gateway_id, p_replica, p_pod_id, p_protocol, p_remote, p_token_id, p_start, p_start);
    RETURN true;
END $$;
CREATE FUNCTION gatecast.dismiss_older(p_connection_ids text[]) RETURNS void
    LANGUAGE sql
    AS $$
    UPDATE gatecast.connections o SET dismissal = 'restarting'
    FROM gatecast.connections ended JOIN gatecast.gateway_streams s USING (gateway_id)
    WHERE ended.connection_id = ANY (p_connection_ids) AND ended.confirmed < s.head
      AND o.gateway_id = ended.gateway_id AND o.replica = ended.replica AND o.number < ended.number
      AND o.dismissal IS NULL
$$;
CREATE FUNCTION gatecast.dismiss_positions(p_gateway_ids text[], p_replicas text[], p_protocol text DEFAULT NULL::text) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM gatecast.lock_positions(p_gateway_ids, p_replicas);
    UPDATE gatecast.connections o SET dismissal = 'restarting'
    WHERE (o.gateway_id, o.replica) IN (SELECT * FROM unnest(p_gateway_ids, p_replicas))
      AND o.dismissal IS NULL AND o.protocol = coalesce(p_protocol, o.protocol);
END $$;
CREATE FUNCTION gatecast.dismiss_token(p_token_id text) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    dismissed bigint;
    gateway_ids text[];
    replicas text[];
    connection_ids text[];
BEGIN
    SELECT array_agg(o.gateway_id), array_agg(o.replica), array_agg(o.connection_id)
    INTO gateway_ids, replicas, connection_ids FROM gatecast.connections o WHERE o.token_id = p_token_id;
    PERFORM gatecast.lock_positions(gateway_ids, replicas);
    -- These and no others: one that came while we waited stands on a position that is not locked here. Whoever opened it
    -- looks at the token once more behind its record, and finds it revoked.
    UPDATE gatecast.connections SET dismissal = 'token-revoked' WHERE connection_id = ANY (connection_ids);
    GET DIAGNOSTICS dismissed = ROW_COUNT;
    RETURN dismissed;
END $$;
CREATE FUNCTION gatecast.end_lease(p_pod_id text) RETURNS void
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
BEGIN
    DELETE FROM gatecast.pods WHERE pod_id = p_pod_id;
    PERFORM gatecast.settle_pods('{}', ARRAY[p_pod_id], ARRAY[p_pod_id]);
END $$;
CREATE FUNCTION gatecast.forget_connections() RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    -- As lock_positions, and in the same order: all of them.
    PERFORM FROM gatecast.cursors c ORDER BY c.gateway_id, c.replica FOR NO KEY UPDATE;
    PERFORM FROM gatecast.connections o ORDER BY o.connection_id FOR NO KEY UPDATE;
    DELETE FROM gatecast.connections;
END $$;
CREATE FUNCTION gatecast.forget_gateway(p_gateway_id text) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM FROM gatecast.gateway_streams WHERE gateway_id = p_gateway_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM gatecast.lock_positions(array_agg(c.gateway_id), array_agg(c.replica))
    FROM gatecast.cursors c WHERE c.gateway_id = p_gateway_id;
    WITH gone AS (DELETE FROM gatecast.gateway_streams WHERE gateway_id = p_gateway_id RETURNING log_id)
    INSERT INTO gatecast.forgotten_logs (log_id) SELECT log_id FROM gone;
    UPDATE gatecast.connections SET dismissal = 'gateway-deleted' WHERE gateway_id = p_gateway_id;
    RETURN true;
END $$;
CREATE FUNCTION gatecast.hint(gateway_ids text[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    names text := to_json(gateway_ids)::text;
BEGIN
    PERFORM pg_notify('gatecast', CASE WHEN octet_length(names) < 7900 THEN names ELSE '*' END);
END $$;
CREATE FUNCTION gatecast.lock_positions(p_gateway_ids text[], p_replicas text[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM FROM gatecast.cursors c
    WHERE (c.gateway_id, c.replica) IN (SELECT * FROM unnest(p_gateway_ids, p_replicas))
    ORDER BY c.gateway_id, c.replica FOR NO KEY UPDATE;
    PERFORM FROM gatecast.connections o
    WHERE (o.gateway_id, o.replica) IN (SELECT * FROM unnest(p_gateway_ids, p_replicas))
    ORDER BY o.connection_id FOR NO KEY UPDATE;
END $$;
CREATE FUNCTION gatecast.lose_parked(p_gateway_ids text[], p_replicas text[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM gatecast.dismiss_positions(p_gateway_ids, p_replicas);
    UPDATE gatecast.cursors c SET resync_reason = 'parked'
    WHERE (c.gateway_id, c.replica) IN (SELECT * FROM unnest(p_gateway_ids, p_replicas));
END $$;
CREATE FUNCTION gatecast.publish(gateway_id text, type text, action text, entity_type text, entity_id text, data json DEFAULT '{}'::json, event_id uuid DEFAULT gen_random_uuid(), originated_at timestamp with time zone DEFAULT clock_timestamp()) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    ids text[] := ARRAY[btrim(publish.gateway_id, E' \t\r\n'), btrim(publish.type, E' \t\r\n'),
                        btrim(publish.entity_type, E' \t\r\n'), btrim(publish.entity_id, E' \t\r\n')];
    names text[] := ARRAY['gateway_id', 'type', 'entity_type', 'entity_id'];
    appended record;
BEGIN
    FOR i IN 1..4 LOOP
        IF coalesce(ids[i], '') = '' THEN
            RAISE EXCEPTION '% must not be blank', names[i] USING ERRCODE = 'check_violation';
        ELSIF char_length(ids[i]) > 255 THEN
            RAISE EXCEPTION '% must have at most 255 characters, not %', names[i], char_length(ids[i])
                USING ERRCODE = 'check_violation';
        ELSIF ids[i] ~ '[[:cntrl:]]' THEN
            RAISE EXCEPTION '% must hold only printable characters', names[i] USING ERRCODE = 'check_violation';
        END IF;
    END LOOP;
    IF publish.action IS NULL OR publish.action NOT IN ('CREATE', 'UPDATE', 'DELETE', 'PROVISION', 'REVOKE') THEN
        RAISE EXCEPTION 'action must be one of CREATE, UPDATE, DELETE, PROVISION, REVOKE; got %', publish.action
            USING ERRCODE = 'check_violation';
    END IF;
    IF json_typeof(publish.data) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'data must be a JSON object' USING ERRCODE = 'check_violation';
    END IF;
    IF octet_length(publish.data::text) > 1048576 THEN
        RAISE EXCEPTION 'data must be at most 1,048,576 bytes of JSON; it is % bytes',
            octet_length(publish.data::text) USING ERRCODE = 'check_violation';
    END IF;
    SELECT * INTO appended FROM gatecast.append_event(
        ids[1], coalesce(publish.event_id, gen_random_uuid()), ids[2], publish.action, ids[3], ids[4],
        publish.data::text, coalesce(publish.originated_at, clock_timestamp()), NULL, true, true);
    IF appended.status = 'unknown' THEN
        RAISE EXCEPTION 'gateway "%" is not registered', ids[1] USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN appended."offset";
END $$;
CREATE FUNCTION gatecast.record_progress(p_connection_ids text[], p_gateway_ids text[], p_replicas text[], p_epochs uuid[], p_sent bigint[], p_confirmed bigint[], p_remove boolean) RETURNS void
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM gatecast.lock_positions(p_gateway_ids, p_replicas);
    -- Who reports is alive, even if its pod's lease ran out.
    UPDATE gatecast.connections o
    SET sent = greatest(o.sent, p.sent), confirmed = greatest(o.confirmed, p.confirmed), released = false
    FROM (SELECT u.connection_id, max(u.sent) AS sent, max(u.confirmed) AS confirmed
          FROM unnest(p_connection_ids, p_epochs, p_sent, p_confirmed) AS u(connection_id, epoch, sent, confirmed)
          WHERE u.epoch = (SELECT e.current FROM gatecast.epoch e) GROUP BY u.connection_id) p
    WHERE o.connection_id = p.connection_id;
    IF p_remove THEN
        PERFORM gatecast.dismiss_older(p_connection_ids);
    END IF;
    PERFORM gatecast.advance_positions(p_gateway_ids, p_replicas);
    IF p_remove THEN
        -- Those that leave have counted for the last time; now the position is for those that stay to move.
        DELETE FROM gatecast.connections o WHERE o.connection_id = ANY (p_connection_ids);
        PERFORM gatecast.advance_positions(p_gateway_ids, p_replicas);
    END IF;
END $$;
CREATE FUNCTION gatecast.remove_forgotten(p_chunk integer) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    forgotten bigint;
    through bigint;
    removed bigint := 0;
    wanted bigint;
    found_here bigint;
BEGIN
    FOR forgotten IN SELECT f.log_id FROM gatecast.forgotten_logs f ORDER BY f.log_id LIMIT p_chunk LOOP
        EXIT WHEN removed >= p_chunk;
        wanted := p_chunk - removed;
        SELECT max(c."offset"), count(*) INTO through, found_here FROM (
            SELECT e."offset" FROM gatecast.events e WHERE e.log_id = forgotten ORDER BY e."offset" LIMIT wanted) c;
        DELETE FROM gatecast.outcomes o WHERE o.log_id = forgotten AND o."offset" <= through;
        DELETE FROM gatecast.events e WHERE e.log_id = forgotten AND e."offset" <= through;
        IF found_here < wanted THEN
            DELETE FROM gatecast.outcomes o WHERE o.log_id = forgotten;
            DELETE FROM gatecast.forgotten_logs f WHERE f.log_id = forgotten;
        END IF;
        removed := removed + found_here;
    END LOOP;
    RETURN removed;
END $$;
CREATE FUNCTION gatecast.renew_lease(p_pod_id text, p_duration interval) RETURNS uuid
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
DECLARE
    known boolean := EXISTS (SELECT FROM gatecast.pods p WHERE p.pod_id = p_pod_id);
    -- While its lease had lapsed, its own connections did not count, and positions may not have moved for them.
    returned text[] := ARRAY(SELECT p.pod_id FROM gatecast.pods p WHERE p.pod_id = p_pod_id AND p.lease_until <= now());
    ended text[];
    forgotten text[];
    present_life uuid;
BEGIN
    INSERT INTO gatecast.pods AS p (pod_id, lease_until) VALUES (p_pod_id, now() + p_duration)
    ON CONFLICT (pod_id) DO UPDATE SET lease_until = excluded.lease_until RETURNING p.life INTO present_life;
    -- One renewal does it for all, and once for each death: whoever finds a pod locked leaves it to the other.
    ended := ARRAY(
        SELECT p.pod_id FROM gatecast.pods p
        WHERE p.lease_until <= now() AND p.pod_id <> p_pod_id
          AND EXISTS (SELECT FROM gatecast.connections o WHERE o.pod_id = p.pod_id AND NOT o.released)
        FOR UPDATE OF p SKIP LOCKED);
    forgotten := ARRAY(
        SELECT p.pod_id FROM gatecast.pods p
        WHERE p.lease_until < now() - interval '10 minutes' AND p.pod_id <> p_pod_id FOR UPDATE SKIP LOCKED);
    IF NOT known THEN
        -- Somebody may have connected to a pod just when it was forgotten.
        ended := ended || ARRAY(SELECT DISTINCT o.pod_id FROM gatecast.connections o
                                WHERE NOT o.released AND NOT EXISTS (
                                    SELECT FROM gatecast.pods p WHERE p.pod_id = o.pod_id));
    END IF;
    IF returned || ended || forgotten <> '{}' THEN
        PERFORM gatecast.settle_pods(returned, ended, forgotten);
        DELETE FROM gatecast.pods WHERE pod_id = ANY (forgotten);
    END IF;
    RETURN present_life;
END $$;
CREATE FUNCTION gatecast.settle_pods(p_returned text[], p_ended text[], p_forgotten text[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    gateway_ids text[];
    replicas text[];
    connection_ids text[];
    ended text[];
BEGIN
    SELECT array_agg(o.gateway_id), array_agg(o.replica), array_agg(o.connection_id),
           array_agg(o.connection_id) FILTER (WHERE o.pod_id = ANY (p_ended) AND NOT o.released)
    INTO gateway_ids, replicas, connection_ids, ended
    FROM gatecast.connections o WHERE o.pod_id = ANY (p_returned || p_ended || p_forgotten);
    PERFORM gatecast.lock_positions(gateway_ids, replicas);
    PERFORM gatecast.dismiss_older(ended);
    UPDATE gatecast.connections SET released = true WHERE connection_id = ANY (ended);
    UPDATE gatecast.connections SET released = false
    WHERE connection_id = ANY (connection_ids) AND pod_id = ANY (p_returned) AND released;
    DELETE FROM gatecast.connections WHERE connection_id = ANY (connection_ids) AND pod_id = ANY (p_forgotten);
    PERFORM gatecast.advance_positions(gateway_ids, replicas);
END $$;
CREATE FUNCTION gatecast.trim_events(p_keep_confirmed interval, p_keep_at_most interval, p_max_events bigint, p_chunk integer) RETURNS bigint
    LANGUAGE plpgsql
    SET enable_bitmapscan TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
DECLARE
    removable record;
    removed bigint;
    gateway_ids text[] := '{}';
    cuts bigint[] := '{}';
    losers text[];
    replicas text[];
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('gatecast.trim_events')) THEN
        RETURN 0;
    END IF;
    removed := gatecast.remove_forgotten(p_chunk);
    IF removed > 0 THEN
        RETURN removed;
    END IF;
    FOR removable IN
        WITH log AS MATERIALIZED (
            -- What is parked or held is confirmed, and not handled.
            SELECT s.gateway_id, s.log_id, s.head, s.trimmed_through, least(coalesce(
                (SELECT min(c.confirmed) FROM gatecast.cursors c, gatecast.epoch e
                 WHERE c.gateway_id = s.gateway_id AND c.epoch = e.current), 0),
                (SELECT min(o."offset") - 1 FROM gatecast.outcomes o
                 WHERE o.log_id = s.log_id AND o.kind IN ('parked', 'held', 'retried', 'skipped'))) AS confirmed
            FROM gatecast.gateway_streams s WHERE s.head > s.trimmed_through
        ), candidate AS MATERIALIZED (
            SELECT l.* FROM log l CROSS JOIN LATERAL (
                SELECT e.recorded_at FROM gatecast.events e
                WHERE e.log_id = l.log_id AND e."offset" > l.trimmed_through ORDER BY e."offset" LIMIT 1) oldest
            WHERE l.head - l.trimmed_through > p_max_events
               OR oldest.recorded_at < now() - p_keep_at_most
               OR (l.confirmed > l.trimmed_through AND oldest.recorded_at < now() - p_keep_confirmed)
            LIMIT 500
        )
        SELECT c.gateway_id, p.through, p.events
        FROM candidate c CROSS JOIN LATERAL (
            SELECT max(w."offset") AS through, count(*) AS events FROM (
                -- Only an unbroken run from the front may go: retention leaves no holes (scenario S19).
                SELECT o."offset", bool_and(o."offset" <= c.head - p_max_events
                                            OR o.recorded_at < now() - p_keep_at_most
                                            OR (o."offset" <= c.confirmed AND o.recorded_at < now() - p_keep_confirmed))
                                   OVER (ORDER BY o."offset") AS goes
                FROM (SELECT e."offset", e.recorded_at FROM gatecast.events e
                      WHERE e.log_id = c.log_id AND e."offset" > c.trimmed_through
                      ORDER BY e."offset" LIMIT p_chunk) o) w
            WHERE w.goes) p
        WHERE p.events > 0 ORDER BY c.gateway_id
    LOOP
        -- Lock first, then count: what cannot be locked must not use up the chunk of the logs behind it.
        EXIT WHEN removed + removable.events > p_chunk;
        PERFORM FROM gatecast.gateway_streams s
        WHERE s.gateway_id = removable.gateway_id AND s.trimmed_through < removable.through
        FOR UPDATE OF s SKIP LOCKED;
        IF FOUND THEN
            removed := removed + removable.events;
            gateway_ids := gateway_ids || removable.gateway_id;
            cuts := cuts || removable.through;
        END IF;
    END LOOP;
    WITH held AS MATERIALIZED (
        SELECT s.gateway_id, s.log_id, c.through FROM unnest(gateway_ids, cuts) AS c(gateway_id, through)
        JOIN gatecast.gateway_streams s USING (gateway_id)
    ), lost AS (
        SELECT c.gateway_id, c.replica FROM held h JOIN gatecast.cursors c USING (gateway_id) WHERE EXISTS (
            SELECT FROM gatecast.outcomes o WHERE o.log_id = h.log_id AND o.replica = c.replica
              AND o."offset" <= h.through AND o.kind IN ('parked', 'held', 'retried', 'skipped'))
    ), moved AS (
        UPDATE gatecast.gateway_streams s SET trimmed_through = h.through FROM held h WHERE s.gateway_id = h.gateway_id
    ), forgotten AS (
        DELETE FROM gatecast.outcomes o USING held h WHERE o.log_id = h.log_id AND o."offset" <= h.through
    ), gone AS (
        DELETE FROM gatecast.events e USING held h WHERE e.log_id = h.log_id AND e."offset" <= h.through
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM gone), array_agg(l.gateway_id), array_agg(l.replica) INTO removed, losers, replicas
    FROM lost l;
    IF losers IS NOT NULL THEN
        PERFORM gatecast.lose_parked(losers, replicas);
    END IF;
    RETURN removed;
END $$;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE gatecast.connections (
    connection_id text NOT NULL COLLATE pg_catalog."C",
    number bigint NOT NULL,
    gateway_id text NOT NULL COLLATE pg_catalog."C",
    replica text NOT NULL,
    pod_id text NOT NULL,
    protocol text NOT NULL,
    remote text NOT NULL,
    token_id text,
    connected_at timestamp with time zone DEFAULT now() NOT NULL,
    sent bigint NOT NULL,
    confirmed bigint NOT NULL,
    dismissal text,
    released boolean DEFAULT false NOT NULL
)
WITH (fillfactor='70');
ALTER TABLE gatecast.connections ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME gatecast.connections_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE gatecast.cursors (
    gateway_id text NOT NULL COLLATE pg_catalog."C",
    replica text NOT NULL,
    epoch uuid NOT NULL,
    sent bigint DEFAULT 0 NOT NULL,
    confirmed bigint DEFAULT 0 NOT NULL,
    resync_reason text,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
)
WITH (fillfactor='70');
CREATE TABLE gatecast.epoch (
    only_row boolean DEFAULT true NOT NULL,
    current uuid NOT NULL,
    begun_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT epoch_only_row_check CHECK (only_row)
);
CREATE TABLE gatecast.events (
    log_id bigint NOT NULL,
    "offset" bigint NOT NULL,
    event_id uuid NOT NULL,
    type text NOT NULL,
    action text NOT NULL,
    entity_type text NOT NULL,
    entity_id text NOT NULL,
    payload text NOT NULL,
    size integer NOT NULL,
    originated_at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    trace_parent text
);
CREATE TABLE gatecast.forgotten_logs (
    log_id bigint NOT NULL
);
CREATE TABLE gatecast.gateway_streams (
    gateway_id text NOT NULL COLLATE pg_catalog."C",
    log_id bigint NOT NULL,
    head bigint DEFAULT 0 NOT NULL,
    trimmed_through bigint DEFAULT 0 NOT NULL,
    registered_in uuid NOT NULL,
    changed_xid xid8 DEFAULT pg_current_xact_id() NOT NULL
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0.05', autovacuum_vacuum_cost_delay='0');
ALTER TABLE gatecast.gateway_streams ALTER COLUMN log_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME gatecast.gateway_streams_log_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE gatecast.outcomes (
    log_id bigint NOT NULL,
    replica text NOT NULL,
    "offset" bigint NOT NULL,
    kind text NOT NULL,
    reason text NOT NULL,
    recorded_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT outcomes_kind_check CHECK ((kind = ANY (ARRAY['applied'::text, 'rejected'::text, 'parked'::text, 'held'::text, 'retried'::text, 'skipped'::text, 'released'::text])))
);
CREATE TABLE gatecast.pods (
    pod_id text NOT NULL,
    lease_until timestamp with time zone NOT NULL,
    life uuid DEFAULT gen_random_uuid() NOT NULL
);
CREATE TABLE gatecast.schema_migrations (
    number integer NOT NULL,
    name text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.gatecast_admin_tokens (
    id text NOT NULL,
    organization text NOT NULL,
    digest text NOT NULL,
    created_at timestamp with time zone NOT NULL
);
CREATE TABLE public.gatecast_api_keys (
    id text NOT NULL,
    artifact_id text NOT NULL,
    name text NOT NULL,
    mask text NOT NULL,
    sha256 text NOT NULL,
    expires_at bigint,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    revoked_at bigint
);
CREATE TABLE public.gatecast_artifacts (
    id text NOT NULL,
    organization text NOT NULL,
    kind text NOT NULL,
    handle text NOT NULL,
    name text NOT NULL,
    artifact_version text NOT NULL,
    content_id text NOT NULL,
    version bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL
);
CREATE TABLE public.gatecast_content_needs (
    content_id text NOT NULL,
    provider_id text NOT NULL
);
CREATE TABLE public.gatecast_content_secrets (
    content_id text NOT NULL,
    handle text NOT NULL
);
CREATE TABLE public.gatecast_contents (
    id text NOT NULL,
    artifact_id text NOT NULL,
    name text NOT NULL,
    artifact_version text NOT NULL,
    document bytea NOT NULL,
    credentials text NOT NULL,
    content bytea NOT NULL
);
CREATE TABLE public.gatecast_deployments (
    id text NOT NULL,
    artifact_id text NOT NULL,
    gateway_id text NOT NULL,
    revision bigint NOT NULL,
    content_id text NOT NULL,
    state text NOT NULL,
    reason text NOT NULL,
    performed_at bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL
);
CREATE TABLE public.gatecast_gateway_tokens (
    id text NOT NULL,
    gateway_id text NOT NULL,
    prefix text NOT NULL,
    digest text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    last_used_at timestamp with time zone,
    revoked_at timestamp with time zone
);
CREATE TABLE public.gatecast_gateways (
    id text NOT NULL,
    organization text NOT NULL,
    name text NOT NULL,
    display_name text NOT NULL,
    description text NOT NULL,
    vhost text NOT NULL,
    type text NOT NULL,
    connection_policy text NOT NULL,
    properties text NOT NULL,
    manifest text,
    own_events bigint DEFAULT 0 NOT NULL,
    unrestored text DEFAULT ''::text NOT NULL,
    version bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL
);
CREATE TABLE public.gatecast_imported_artifacts (
    gateway_id text NOT NULL,
    local_id text NOT NULL,
    id text NOT NULL,
    kind text NOT NULL,
    handle text NOT NULL,
    name text NOT NULL,
    artifact_version text NOT NULL,
    status text NOT NULL,
    configuration bytea NOT NULL,
    deployed_at text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL
);
CREATE TABLE public.gatecast_llm_provider_templates (
    organization text NOT NULL,
    handle text NOT NULL,
    document text NOT NULL,
    version bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL
);
CREATE TABLE public.gatecast_organizations (
    id text NOT NULL
);
CREATE TABLE public.gatecast_placements (
    artifact_id text NOT NULL,
    gateway_id text NOT NULL,
    kind text NOT NULL,
    desired text NOT NULL,
    deployment_id text NOT NULL,
    performed_at bigint NOT NULL,
    event_id text NOT NULL,
    held text NOT NULL
);
CREATE TABLE public.gatecast_secrets (
    handle text NOT NULL,
    artifact_id text NOT NULL,
    value bytea NOT NULL,
    created_at timestamp with time zone NOT NULL
);
CREATE TABLE public.gatecast_subscription_records (
    gateway_id text NOT NULL,
    kind text NOT NULL,
    id text NOT NULL,
    api_id text NOT NULL,
    body bytea NOT NULL,
    version bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL
);
INSERT INTO gatecast.connections OVERRIDING SYSTEM VALUE VALUES ('c6f418a1-f39a-409b-9d1a-03d8ce28172e', 1, '0e6418ca-d697-4f30-b850-6626fee42208', '', 'pod-1', 'gateway.v1', '127.0.0.1', 'cf70ca33-5cb1-44e7-8d47-aa2490a12464', '2026-11-25 18:01:39.670431+00', 2, 2, NULL, false);
INSERT INTO gatecast.cursors VALUES ('0e6418ca-d697-4f30-b850-6626fee42208', '', 'd5201fe5-a7ba-4096-b9b9-d221ef507d77', 2, 2, NULL, '2026-11-25 18:01:40.344053+00');
INSERT INTO gatecast.epoch VALUES (true, 'd5201fe5-a7ba-4096-b9b9-d221ef507d77', '2026-11-25 18:01:39.365515+00');
INSERT INTO gatecast.events VALUES (2, 1, '00000000-0000-0000-0000-000000000001', 'api.updated', 'UPDATE', 'Api', 'api-1', '{"number":0}', 12, '2026-11-25 18:01:39.74934+00', '2026-11-25 18:01:39.75292+00', NULL);
INSERT INTO gatecast.events VALUES (2, 2, '00000000-0000-0000-0000-000000000002', 'api.updated', 'UPDATE', 'Api', 'api-1', '{"number":1}', 12, '2026-11-25 18:01:39.770457+00', '2026-11-25 18:01:39.773624+00', NULL);
INSERT INTO gatecast.events VALUES (2, 3, '00000000-0000-0000-0000-000000000003', 'api.updated', 'UPDATE', 'Api', 'api-1', '{"number":2}', 12, '2026-11-25 18:01:39.781177+00', '2026-11-25 18:01:39.78255+00', NULL);
INSERT INTO gatecast.events VALUES (1, 1, 'cf88ae79-b1c2-4dd0-8ac0-76d45877f533', 'llmprovider.deployed', 'CREATE', 'llmprovider', 'd77b7b2d-8e04-48b1-ab70-18bbecbee9cd', '{"providerId":"d77b7b2d-8e04-48b1-ab70-18bbecbee9cd","deploymentId":"22359090-80d1-4ba8-bad7-879ba104cf73","performedAt":"2026-11-25T18:01:39.903Z","gatewayId":"0e6418ca-d697-4f30-b850-6626fee42208","organizationId":"default","status":"DEPLOYED"}', 246, '2026-11-25 18:01:39.907912+00', '2026-11-25 18:01:39.958302+00', NULL);
INSERT INTO gatecast.events VALUES (2, 4, 'c2ed1845-a742-4f70-ad7a-a258f97574fe', 'llmprovider.deployed', 'CREATE', 'llmprovider', 'd77b7b2d-8e04-48b1-ab70-18bbecbee9cd', '{"providerId":"d77b7b2d-8e04-48b1-ab70-18bbecbee9cd","deploymentId":"ba9ffb78-80d4-47a1-881f-9fee085a7e15","performedAt":"2026-11-25T18:01:39.911Z","gatewayId":"d43ad9d6-4008-4493-8e37-42d4e36b1cfc","organizationId":"default","status":"DEPLOYED"}', 246, '2026-11-25 18:01:39.913344+00', '2026-11-25 18:01:39.958348+00', NULL);
INSERT INTO gatecast.events VALUES (1, 2, 'd7ee53cd-9483-41ef-b260-d52c6e241904', 'apikey.created', 'PROVISION', 'apikey', '63f4de8b-d9a0-4cec-9881-e98974f76e59', '{"uuid":"63f4de8b-d9a0-4cec-9881-e98974f76e59","apiId":"d77b7b2d-8e04-48b1-ab70-18bbecbee9cd","name":"first-key","apiKeyHashes":"{\"sha256\":\"e9f209c7bbef7e20cce7ea5788005204fff082c4c40a492071f03ce86697f632\"}","maskedApiKey":"***b787c","updatedAt":"2026-11-25T18:01:40.094Z","createdAt":"2026-11-25T18:01:40.094Z"}', 316, '2026-11-25 18:01:40.102993+00', '2026-11-25 18:01:40.105089+00', NULL);
INSERT INTO gatecast.events VALUES (2, 5, '5e4cefbd-9849-4acd-b3ff-5951bc0d47b4', 'apikey.created', 'PROVISION', 'apikey', '63f4de8b-d9a0-4cec-9881-e98974f76e59', '{"uuid":"63f4de8b-d9a0-4cec-9881-e98974f76e59","apiId":"d77b7b2d-8e04-48b1-ab70-18bbecbee9cd","name":"first-key","apiKeyHashes":"{\"sha256\":\"e9f209c7bbef7e20cce7ea5788005204fff082c4c40a492071f03ce86697f632\"}","maskedApiKey":"***b787c","updatedAt":"2026-11-25T18:01:40.094Z","createdAt":"2026-11-25T18:01:40.094Z"}', 316, '2026-11-25 18:01:40.103114+00', '2026-11-25 18:01:40.105112+00', NULL);
INSERT INTO gatecast.gateway_streams OVERRIDING SYSTEM VALUE VALUES ('0e6418ca-d697-4f30-b850-6626fee42208', 1, 2, 0, 'd5201fe5-a7ba-4096-b9b9-d221ef507d77', '767');
INSERT INTO gatecast.gateway_streams OVERRIDING SYSTEM VALUE VALUES ('d43ad9d6-4008-4493-8e37-42d4e36b1cfc', 2, 5, 0, 'd5201fe5-a7ba-4096-b9b9-d221ef507d77', '767');
INSERT INTO gatecast.outcomes VALUES (1, '', 1, 'applied', '', '2026-11-25 18:01:40.144953+00');
INSERT INTO gatecast.pods VALUES ('pod-1', '2026-11-25 18:01:47.615104+00', '713dad38-637d-4b30-bc3a-2bd3d7d98b91');
INSERT INTO gatecast.schema_migrations VALUES (1, 'event_log', '2026-11-25 18:01:39.365515+00');
INSERT INTO gatecast.schema_migrations VALUES (1001, 'gateways', '2026-11-25 18:01:39.365515+00');
INSERT INTO gatecast.schema_migrations VALUES (1002, 'artifacts', '2026-11-25 18:01:39.365515+00');
INSERT INTO public.gatecast_api_keys VALUES ('63f4de8b-d9a0-4cec-9881-e98974f76e59', 'd77b7b2d-8e04-48b1-ab70-18bbecbee9cd', 'first-key', '***b787c', 'e9f209c7bbef7e20cce7ea5788005204fff082c4c40a492071f03ce86697f632', NULL, 1795629700094, 1795629700094, NULL);
INSERT INTO public.gatecast_artifacts VALUES ('d77b7b2d-8e04-48b1-ab70-18bbecbee9cd', 'default', 'LlmProvider', 'openai', 'OpenAI', 'v1.0', '3654e377-80c8-406d-bc8c-c4c4150e9c4b', 1, '2026-11-25 18:01:39.869895+00', '2026-11-25 18:01:39.869895+00');
INSERT INTO public.gatecast_content_secrets VALUES ('3654e377-80c8-406d-bc8c-c4c4150e9c4b', 'gatecast-d3c880bc-4a6c-4bfa-8230-80278426367a');
INSERT INTO public.gatecast_contents VALUES ('3654e377-80c8-406d-bc8c-c4c4150e9c4b', 'd77b7b2d-8e04-48b1-ab70-18bbecbee9cd', 'OpenAI', 'v1.0', '\xd625fa01a96c419d622215e87c0ab061d530554f766a558e3bc594794e8636bdde3a200c0d9a744448ec1c41a7be32c7e586ef0f628568ff703b583a23f8659dc28c013922ed165970176a0a2a52efb3a7c021dc5c04aab49ac7d01ac63d587dac580b3b6749929d76ac1e741e0f6341871fb2cf4599dceb404d3b81f994c44879a84b91bf2c60f5f0f79d647cce7168dc70d8cb613864978d6f502cbfbed7025ee2287094a10dd6663280b63d0f5924ada43febd449d6801df2ed37d6706c02f4eb46efb8dc9e55416e40ed2851bff625640163d76042967299', '{"upstream.auth": "gatecast-d3c880bc-4a6c-4bfa-8230-80278426367a"}', '\xd625fa013b18646b141e9ee9155c2ffd4bf75a0520e2e4c00ef8c3010d163438b3b6e225b46eec6da1d9d5da49e57ca318c6308d4056c537b473d26f47054fdb25b4daa3a3abee68846b2a577600b0619f98a0ace85e5808fd2000a5525e11caa9bc55649f3c72d58275413ac47303f29d07b6fec75b6b13676a6af183409a5080a9d243ba5bf494d9f28173d1c20e2096c3e315ba42364e0814c721c99cc00135b9bceafecc558fdc0097551cce7dbb3d47a5eeb6fb7d00f74fb153dfbd75a89ad8e36657890e1c91a2362fecae192c3ff2024c6d024f9e600d5c54e2a4d70b77e7289bb9e67a42a691d3f1f3275ebedde0bcf9f0cd14bfaca67373ddad13ab24b6092bfe433a0a77d299f3cf5c37f1a7fdb7ee8db740b3c850b7756bb01408d82eb1f38cbc8db2a3234d22478798cc0a2449dcf6d7cf48824192208f17d9595162f1b31affbae113a8cd4efb50dfcb8c76c29575113876dd0ae2c299d99eec90960fd8707eb78d24e3259c910f29a4697ccf1e7f9b98edbe831f1f7c5f01393e1fd435e882e38844989633823de71b7593c65e61fc9c613a71800b9f0788fcacec8c683abe71591de8f26a17e8a70d4a59cf8259adf3473ac72a57');
INSERT INTO public.gatecast_deployments VALUES ('ba9ffb78-80d4-47a1-881f-9fee085a7e15', 'd77b7b2d-8e04-48b1-ab70-18bbecbee9cd', 'd43ad9d6-4008-4493-8e37-42d4e36b1cfc', 1, '3654e377-80c8-406d-bc8c-c4c4150e9c4b', 'PENDING', '', 1795629699911, '2026-11-25 18:01:39.869895+00', '2026-11-25 18:01:39.869895+00');
INSERT INTO public.gatecast_deployments VALUES ('22359090-80d1-4ba8-bad7-879ba104cf73', 'd77b7b2d-8e04-48b1-ab70-18bbecbee9cd', '0e6418ca-d697-4f30-b850-6626fee42208', 1, '3654e377-80c8-406d-bc8c-c4c4150e9c4b', 'DEPLOYED', '', 1795629699903, '2026-11-25 18:01:39.869895+00', '2026-11-25 18:01:40.13432+00');
INSERT INTO public.gatecast_gateway_tokens VALUES ('d4a758b7-129d-4b77-a63a-d5c12b7dfcdb', 'd43ad9d6-4008-4493-8e37-42d4e36b1cfc', 'gcg_MkrrZQ', 'df890e78be534d29cbd7b8654b58f03bf85f9aa1450920741d15028def2ed8f3', '2026-11-25 18:01:39.649695+00', NULL, NULL);
INSERT INTO public.gatecast_gateway_tokens VALUES ('cf70ca33-5cb1-44e7-8d47-aa2490a12464', '0e6418ca-d697-4f30-b850-6626fee42208', 'gcg_jgs9aw', '4174c59a8d4393cd9cf9b90d40168e8c3030782b47d29f38334060d099dceb64', '2026-11-25 18:01:39.62616+00', '2026-11-25 18:01:39.67736+00', NULL);
INSERT INTO public.gatecast_gateways VALUES ('d43ad9d6-4008-4493-8e37-42d4e36b1cfc', 'default', 'gateway-2', '', '', '', 'regular', 'all', '{}', NULL, 2, '', 1, '2026-11-25 18:01:39.639732+00', '2026-11-25 18:01:39.639732+00');
INSERT INTO public.gatecast_gateways VALUES ('0e6418ca-d697-4f30-b850-6626fee42208', 'default', 'gateway-1', '', '', '', 'regular', 'all', '{}', '{"version":"1.2.0","functionalityType":"regular","policies":[{"name":"api-key-auth","version":"v1.0.0","managedBy":"wso2","parameters":{"type":"object","additionalProperties":false,"properties":{"key":{"type":"string"},"in":{"enum":["header","query"]}},"required":["key","in"]}},{"name":"basic-ratelimit","version":"v1.0.0","managedBy":"wso2","parameters":{"type":"object","additionalProperties":false,"properties":{"limits":{"type":"array","minItems":1,"maxItems":10,"items":{"type":"object","additionalProperties":false,"required":["requests","duration"],"properties":{"requests":{"type":"integer","minimum":1,"maximum":1000000000},"duration":{"type":"string","pattern":"^[0-9]+(ns|us|µs|ms|s|m|h)$"}}}}},"required":["limits"]}},{"name":"host-rewrite","version":"v1.0.0","managedBy":"wso2","parameters":{"type":"object","additionalProperties":false,"properties":{"host":{"type":"string","minLength":1,"maxLength":255,"pattern":"^[a-zA-Z0-9.:-]+$"}},"required":["host"]}},{"name":"respond","version":"v1.0.0","managedBy":"wso2","parameters":{"type":"object","additionalProperties":false,"properties":{"statusCode":{"type":"integer","minimum":100,"maximum":599},"headers":{"type":"array","items":{"type":"object","required":["name","value"],"properties":{"name":{"type":"string","minLength":1,"maxLength":256,"pattern":"^[a-zA-Z0-9-_]+$"},"value":{"type":"string","maxLength":8192}},"additionalProperties":false}},"body":{"type":"string","maxLength":1048576}}}},{"name":"set-headers","version":"v1.0.0","managedBy":"wso2","parameters":{"type":"object","properties":{"requestHeaders":{"type":"array","items":{"type":"object","required":["name","value"],"properties":{"name":{"type":"string","minLength":1,"maxLength":256,"pattern":"^[a-zA-Z0-9-_]+$"},"value":{"type":"string","maxLength":8192}}}},"responseHeaders":{"type":"array","items":{"type":"object","required":["name","value"],"properties":{"name":{"type":"string","minLength":1,"maxLength":256,"pattern":"^[a-zA-Z0-9-_]+$"},"value":{"type":"string","maxLength":8192}}}}},"anyOf":[{"required":["requestHeaders"]},{"required":["responseHeaders"]}]}},{"name":"token-based-ratelimit","version":"v1.0.0","managedBy":"wso2","parameters":{"type":"object","additionalProperties":false,"properties":{"promptTokenLimits":{"type":"array","items":{"type":"object","required":["count","duration"],"properties":{"count":{"type":"integer","minimum":1},"duration":{"type":"string","pattern":"^[-+]?(([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(ns|us|µs|ms|s|m|h))+$"}}}},"completionTokenLimits":{"type":"array","items":{"type":"object","required":["count","duration"],"properties":{"count":{"type":"integer","minimum":1},"duration":{"type":"string","pattern":"^[-+]?(([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(ns|us|µs|ms|s|m|h))+$"}}}},"totalTokenLimits":{"type":"array","items":{"type":"object","required":["count","duration"],"properties":{"count":{"type":"integer","minimum":1},"duration":{"type":"string","pattern":"^[-+]?(([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(ns|us|µs|ms|s|m|h))+$"}}}}}}}]}', 2, '', 1, '2026-11-25 18:01:39.604135+00', '2026-11-25 18:01:39.604135+00');
INSERT INTO public.gatecast_imported_artifacts VALUES ('0e6418ca-d697-4f30-b850-6626fee42208', '0aa3dc83-f470-5246-8e31-e79ee95fe565', 'a7204e14-cd19-4541-b898-b489d5616571', 'LlmProviderTemplate', 'openai', 'openai', '', 'deployed', '\xd625fa01e3de3cf61bd99b17ae6d31b58e4c55b1b44ab4a06ef0fefd29a4513a0664fad1b95e47f623902b97523a221c8ec834d27ca543b58153986495264c04ddf9ac280911c8b258f44c2d8b3840a0692ea9a1b4846d484632d2c8c3dbd9fee46c01acaccf75865add8064a0006ba94c45efe3fb10023003b9c18a003e0a97dc98ae6e26e2706c5a611487e3bfc315115ea8220a6ae7d87c6a2cbb79abe8142795ae07b635821b5bd18f9751921f452f716b4d', '2026-01-01T00:00:00.000Z', '2026-11-25 18:01:39.774907+00', '2026-11-25 18:01:39.774907+00');
INSERT INTO public.gatecast_imported_artifacts VALUES ('0e6418ca-d697-4f30-b850-6626fee42208', '28073903-fc0b-5f16-916e-101b24b73a8e', '09c9c180-4e1f-42a4-9316-4bc0f1d0abd4', 'LlmProviderTemplate', 'anthropic', 'anthropic', '', 'deployed', '\xd625fa018af8d538a7a44acab4968a04beb4e540bab7b493b0ef9fe8b8f9a19fe6848ffbad84774150cdc3a566255304e70c5ec7896cbb46584361c5dbb625b398a0e823ccd5b6251aba3899c350d2452f27ebd75f4b3cf095e8c114f8e7c5833e39b753e57e3e621b03304e2b4e9f9d5fff0b0dfe1d3bc8d95592ee6da64e9515611a53fb316881d96abd8978cc4197cf90e18a208c1d33b9aae49fdc3a0524d0db622a70b8372e7e7f2717d2566bdfb10c54cbc73f166e9ab7', '2026-01-01T00:00:00.000Z', '2026-11-25 18:01:39.774907+00', '2026-11-25 18:01:39.774907+00');
INSERT INTO public.gatecast_imported_artifacts VALUES ('0e6418ca-d697-4f30-b850-6626fee42208', '54bc4423-2525-5238-8440-a0152bef627b', 'f5de3f6e-144a-4fbe-a32f-d59b8e2aa896', 'LlmProviderTemplate', 'mistralai', 'mistralai', '', 'deployed', '\xd625fa01aae5afa001344cc5670b673695fc822ce2793e2c621349e8dfcd3c464dc74ee2e14a78c6115d1dc699cf6d2048e095cb937b68af169973c6725ed7186a010ee6f1c9d304ca8075ee5f9286afcdf72612dfbc497f55920f665e74c6b6a636e32233d295df85f3b28809ebf691924d78dcf700695cee7ddcc2b16062707c7c36ac9ea9c5ae36599a231441ce2b5d373550ff958c14da8c56d9e75d7ec2a7c5ac9084e9fd3a8eba70a5bc72798c6258763e35d273df1f69', '2026-01-01T00:00:00.000Z', '2026-11-25 18:01:39.774907+00', '2026-11-25 18:01:39.774907+00');
INSERT INTO public.gatecast_imported_artifacts VALUES ('0e6418ca-d697-4f30-b850-6626fee42208', '8c2164b3-05ba-5352-82c9-43b8614fb93b', '7ef2ca2d-995d-4154-a2b1-233ab07c54db', 'LlmProviderTemplate', 'gemini', 'gemini', '', 'deployed', '\xd625fa010024b93469f95f6bb7f930d867e3a150fa311196de187014f64d1d39b9d13b6040f3e7301d18e28e849ab2d9c739e08d78cc4c2816fbf1f151fed7a8f5ba5aa325d0e5d87ea622e5ae896685b01951a808b8a1696556093aa1c7f461713af696b694fc46805e4bea6e5b5d80b53b65d78e9745593bf437c22f445dfc1b71ddaa5470a69140c22a7c60777a6aa208ab00e084c92f3cb9c14200a54ac6de8a37263dd0bc4d45de9ecec775b5b2e464b81c', '2026-01-01T00:00:00.000Z', '2026-11-25 18:01:39.774907+00', '2026-11-25 18:01:39.774907+00');
INSERT INTO public.gatecast_imported_artifacts VALUES ('0e6418ca-d697-4f30-b850-6626fee42208', '944ecf4e-ff8a-5a1e-a9fa-7b8e8d9f432a', 'b290464c-90f2-4bfe-9c83-2da9a8f2b836', 'LlmProviderTemplate', 'azure-openai', 'azure-openai', '', 'deployed', '\xd625fa013fd0fad8322861a05ff57689171983487e7a91899fd44dcb31f7023df8f9fdec0b3125e7e12ddfe684310ca7826983b5c731fd0fa57937f346f9f20cf2160b580377fb7879babd27ed453b14038051a716c84679fe5de349a8684750ed2f203f645582d3bb3b991ff5b9efa4c3f1caf0eaf98e67c89cc72aa1625ad69bc4489cc2c082474a8d35d78ebf9ae1727e4ecf64bb5a263c13ce85685a79f9d0222dfe208299c59ee467652c1ea0e152bf2415efcfa98c0b35e39682ea42df', '2026-01-01T00:00:00.000Z', '2026-11-25 18:01:39.774907+00', '2026-11-25 18:01:39.774907+00');
INSERT INTO public.gatecast_imported_artifacts VALUES ('0e6418ca-d697-4f30-b850-6626fee42208', 'c140e208-7943-5647-9d21-0e4c8409f318', '7241c1bb-147e-4d0b-9358-b246d4f878a0', 'LlmProviderTemplate', 'azureai-foundry', 'azureai-foundry', '', 'deployed', '\xd625fa010cab8f1bb998e47ff3dee9da3c5fd05bbebf05ea2ad24464a739fa7f112cf55269b36810a30a293b7ce65cf893af21d5e51a2909c7236dab55a6ef658a5afd01d9eadfa1d1e53c4770065699e294faa46a74d2b086edb0f1cb1c678c97ba19261de1da1aac59a2bab199d0d7ff1e698ae8cfbcd95a4a64ecd009d4462c49ba1aab1fcdafb6c9f498d3529ef8479c1bc2e06e2e1a0041481937efa88f664a5974e379228003638c2953f812368291accc4a030b1389eab23d30126f75118eee0dc3bf', '2026-01-01T00:00:00.000Z', '2026-11-25 18:01:39.774907+00', '2026-11-25 18:01:39.774907+00');
INSERT INTO public.gatecast_imported_artifacts VALUES ('0e6418ca-d697-4f30-b850-6626fee42208', '4f10ec27-23ea-5dc2-8a59-bae23e0fd722', '0f839d58-cbf5-4ffe-ace7-f3ae66b7d04e', 'LlmProviderTemplate', 'awsbedrock', 'awsbedrock', '', 'deployed', '\xd625fa0191ffc409169d58ffed6bd0e61b43bae9bd20606544cba401725871e0e720c70049455fbf056a4f92f03ed9238e788080700a5232189e2342b2ff9b3e2b193e294b6b4092c95075aad16d520515223dd21d9e2153968be9fb73951babdc9c2ac98cd943599799e1ed60eaeb2acef14ed22d48c1368f9b3a15c154bd826134c6f69975f3e51d94919b507515450e55ffd0a4bb54db8e526a8aa476c7176608704ba1bea702dc53f7cc5a2b01f46ca32f966f414d951743dc24', '2026-01-01T00:00:00.000Z', '2026-11-25 18:01:39.774907+00', '2026-11-25 18:01:39.774907+00');
INSERT INTO public.gatecast_organizations VALUES ('default');
INSERT INTO public.gatecast_placements VALUES ('d77b7b2d-8e04-48b1-ab70-18bbecbee9cd', 'd43ad9d6-4008-4493-8e37-42d4e36b1cfc', 'LlmProvider', 'DEPLOYED', 'ba9ffb78-80d4-47a1-881f-9fee085a7e15', 1795629699911, 'c2ed1845-a742-4f70-ad7a-a258f97574fe', '');
INSERT INTO public.gatecast_placements VALUES ('d77b7b2d-8e04-48b1-ab70-18bbecbee9cd', '0e6418ca-d697-4f30-b850-6626fee42208', 'LlmProvider', 'DEPLOYED', '22359090-80d1-4ba8-bad7-879ba104cf73', 1795629699903, 'cf88ae79-b1c2-4dd0-8ac0-76d45877f533', '22359090-80d1-4ba8-bad7-879ba104cf73');
INSERT INTO public.gatecast_secrets VALUES ('gatecast-d3c880bc-4a6c-4bfa-8230-80278426367a', 'd77b7b2d-8e04-48b1-ab70-18bbecbee9cd', '\xd625fa01384b50feb387d38b7f5e71d13784b109880a1b4b85336c9fff29a8cd3df1fe61f95e4f726a41bbe183c0082a500a1b', '2026-11-25 18:01:39.869895+00');
SELECT pg_catalog.setval('gatecast.connections_number_seq', 1, true);
SELECT pg_catalog.setval('gatecast.gateway_streams_log_id_seq', 2, true);
ALTER TABLE ONLY gatecast.connections
    ADD CONSTRAINT connections_pkey PRIMARY KEY (connection_id);
ALTER TABLE ONLY gatecast.cursors
    ADD CONSTRAINT cursors_pkey PRIMARY KEY (gateway_id, replica);
ALTER TABLE ONLY gatecast.epoch
    ADD CONSTRAINT epoch_pkey PRIMARY KEY (only_row);
ALTER TABLE ONLY gatecast.events
    ADD CONSTRAINT events_event_id UNIQUE (log_id, event_id);
ALTER TABLE ONLY gatecast.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (log_id, "offset");
ALTER TABLE ONLY gatecast.forgotten_logs
    ADD CONSTRAINT forgotten_logs_pkey PRIMARY KEY (log_id);
ALTER TABLE ONLY gatecast.gateway_streams
    ADD CONSTRAINT gateway_streams_pkey PRIMARY KEY (gateway_id);
ALTER TABLE ONLY gatecast.outcomes
    ADD CONSTRAINT outcomes_pkey PRIMARY KEY (log_id, "offset", replica);
ALTER TABLE ONLY gatecast.pods
    ADD CONSTRAINT pods_pkey PRIMARY KEY (pod_id);
ALTER TABLE ONLY gatecast.schema_migrations
    ADD CONSTRAINT schema_migrations_pkey PRIMARY KEY (number);
ALTER TABLE ONLY public.gatecast_admin_tokens
    ADD CONSTRAINT gatecast_admin_tokens_digest_key UNIQUE (digest);
ALTER TABLE ONLY public.gatecast_admin_tokens
    ADD CONSTRAINT gatecast_admin_tokens_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.gatecast_api_keys
    ADD CONSTRAINT gatecast_api_keys_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.gatecast_api_keys
    ADD CONSTRAINT gatecast_api_keys_sha256_key UNIQUE (sha256);
ALTER TABLE ONLY public.gatecast_artifacts
    ADD CONSTRAINT gatecast_artifacts_organization_kind_handle_key UNIQUE (organization, kind, handle);
ALTER TABLE ONLY public.gatecast_artifacts
    ADD CONSTRAINT gatecast_artifacts_organization_kind_name_artifact_version_key UNIQUE (organization, kind, name, artifact_version);
ALTER TABLE ONLY public.gatecast_artifacts
    ADD CONSTRAINT gatecast_artifacts_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.gatecast_content_needs
    ADD CONSTRAINT gatecast_content_needs_pkey PRIMARY KEY (content_id, provider_id);
ALTER TABLE ONLY public.gatecast_content_secrets
    ADD CONSTRAINT gatecast_content_secrets_pkey PRIMARY KEY (content_id, handle);
ALTER TABLE ONLY public.gatecast_contents
    ADD CONSTRAINT gatecast_contents_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.gatecast_deployments
    ADD CONSTRAINT gatecast_deployments_artifact_id_gateway_id_revision_key UNIQUE (artifact_id, gateway_id, revision);
ALTER TABLE ONLY public.gatecast_deployments
    ADD CONSTRAINT gatecast_deployments_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.gatecast_gateway_tokens
    ADD CONSTRAINT gatecast_gateway_tokens_digest_key UNIQUE (digest);
ALTER TABLE ONLY public.gatecast_gateway_tokens
    ADD CONSTRAINT gatecast_gateway_tokens_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.gatecast_gateways
    ADD CONSTRAINT gatecast_gateways_organization_name_key UNIQUE (organization, name);
ALTER TABLE ONLY public.gatecast_gateways
    ADD CONSTRAINT gatecast_gateways_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.gatecast_imported_artifacts
    ADD CONSTRAINT gatecast_imported_artifacts_id_key UNIQUE (id);
ALTER TABLE ONLY public.gatecast_imported_artifacts
    ADD CONSTRAINT gatecast_imported_artifacts_pkey PRIMARY KEY (gateway_id, local_id);
ALTER TABLE ONLY public.gatecast_llm_provider_templates
    ADD CONSTRAINT gatecast_llm_provider_templates_pkey PRIMARY KEY (organization, handle);
ALTER TABLE ONLY public.gatecast_organizations
    ADD CONSTRAINT gatecast_organizations_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.gatecast_placements
    ADD CONSTRAINT gatecast_placements_pkey PRIMARY KEY (artifact_id, gateway_id);
ALTER TABLE ONLY public.gatecast_secrets
    ADD CONSTRAINT gatecast_secrets_pkey PRIMARY KEY (handle);
ALTER TABLE ONLY public.gatecast_subscription_records
    ADD CONSTRAINT gatecast_subscription_records_pkey PRIMARY KEY (gateway_id, kind, id);
CREATE INDEX connections_gateway ON gatecast.connections USING btree (gateway_id, replica);
CREATE INDEX connections_holding ON gatecast.connections USING btree (pod_id) WHERE (NOT released);
CREATE INDEX connections_pod ON gatecast.connections USING btree (pod_id, dismissal);
CREATE INDEX connections_token ON gatecast.connections USING btree (token_id) WHERE (token_id IS NOT NULL);
CREATE INDEX gateway_streams_changed ON gatecast.gateway_streams USING btree (changed_xid);
CREATE INDEX outcomes_parking ON gatecast.outcomes USING btree (log_id, replica, kind, "offset") WHERE (kind = ANY (ARRAY['parked'::text, 'held'::text, 'retried'::text, 'skipped'::text, 'released'::text, 'rejected'::text]));
CREATE UNIQUE INDEX gatecast_api_keys_name ON public.gatecast_api_keys USING btree (artifact_id, name) WHERE (revoked_at IS NULL);
CREATE INDEX gatecast_content_needs_provider ON public.gatecast_content_needs USING btree (provider_id);
CREATE INDEX gatecast_contents_artifact ON public.gatecast_contents USING btree (artifact_id);
CREATE INDEX gatecast_deployments_content ON public.gatecast_deployments USING btree (content_id);
CREATE INDEX gatecast_deployments_gateway ON public.gatecast_deployments USING btree (gateway_id);
CREATE INDEX gatecast_gateway_tokens_gateway ON public.gatecast_gateway_tokens USING btree (gateway_id);
CREATE INDEX gatecast_placements_gateway ON public.gatecast_placements USING btree (gateway_id);
CREATE INDEX gatecast_secrets_artifact ON public.gatecast_secrets USING btree (artifact_id);
ALTER TABLE ONLY gatecast.cursors
    ADD CONSTRAINT cursors_gateway_id_fkey FOREIGN KEY (gateway_id) REFERENCES gatecast.gateway_streams(gateway_id) ON DELETE CASCADE;
ALTER TABLE ONLY public.gatecast_api_keys
    ADD CONSTRAINT gatecast_api_keys_artifact_id_fkey FOREIGN KEY (artifact_id) REFERENCES public.gatecast_artifacts(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.gatecast_content_needs
    ADD CONSTRAINT gatecast_content_needs_content_id_fkey FOREIGN KEY (content_id) REFERENCES public.gatecast_contents(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.gatecast_content_secrets
    ADD CONSTRAINT gatecast_content_secrets_content_id_fkey FOREIGN KEY (content_id) REFERENCES public.gatecast_contents(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.gatecast_contents
    ADD CONSTRAINT gatecast_contents_artifact_id_fkey FOREIGN KEY (artifact_id) REFERENCES public.gatecast_artifacts(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.gatecast_deployments
    ADD CONSTRAINT gatecast_deployments_artifact_id_fkey FOREIGN KEY (artifact_id) REFERENCES public.gatecast_artifacts(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.gatecast_deployments
    ADD CONSTRAINT gatecast_deployments_content_id_fkey FOREIGN KEY (content_id) REFERENCES public.gatecast_contents(id);
ALTER TABLE ONLY public.gatecast_deployments
    ADD CONSTRAINT gatecast_deployments_gateway_id_fkey FOREIGN KEY (gateway_id) REFERENCES public.gatecast_gateways(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.gatecast_gateway_tokens
    ADD CONSTRAINT gatecast_gateway_tokens_gateway_id_fkey FOREIGN KEY (gateway_id) REFERENCES public.gatecast_gateways(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.gatecast_imported_artifacts
    ADD CONSTRAINT gatecast_imported_artifacts_gateway_id_fkey FOREIGN KEY (gateway_id) REFERENCES public.gatecast_gateways(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.gatecast_placements
    ADD CONSTRAINT gatecast_placements_gateway_id_fkey FOREIGN KEY (gateway_id) REFERENCES public.gatecast_gateways(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.gatecast_secrets
    ADD CONSTRAINT gatecast_secrets_artifact_id_fkey FOREIGN KEY (artifact_id) REFERENCES public.gatecast_artifacts(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.gatecast_subscription_records
    ADD CONSTRAINT gatecast_subscription_records_gateway_id_fkey FOREIGN KEY (gateway_id) REFERENCES public.gatecast_gateways(id) ON DELETE CASCADE;
