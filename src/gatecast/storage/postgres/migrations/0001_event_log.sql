-- The event log, positions, presence and outcomes. PostgreSQL 14 or newer.

CREATE TABLE gatecast.epoch (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    current  uuid NOT NULL,
    begun_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO gatecast.epoch (current) VALUES (gen_random_uuid());

-- Ids collate by bytes, so that every pod and every statement sorts, and therefore locks, in the same order.
CREATE TABLE gatecast.gateway_streams (
    gateway_id      text COLLATE "C" PRIMARY KEY,
    -- A gateway that is registered again has another log: what is left of the first one is none of its business.
    log_id          bigint GENERATED ALWAYS AS IDENTITY,
    head            bigint NOT NULL DEFAULT 0,
    trimmed_through bigint NOT NULL DEFAULT 0,
    registered_in   uuid   NOT NULL,
    changed_xid     xid8   NOT NULL DEFAULT pg_current_xact_id()
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX gateway_streams_changed ON gatecast.gateway_streams (changed_xid);

-- Logs of deleted gateways, whose events and outcomes are removed chunk by chunk: see trim_events.
CREATE TABLE gatecast.forgotten_logs (
    log_id bigint PRIMARY KEY
);

CREATE TABLE gatecast.events (
    log_id        bigint NOT NULL,
    "offset"      bigint NOT NULL,
    event_id      uuid NOT NULL,
    type          text NOT NULL,
    action        text NOT NULL,
    entity_type   text NOT NULL,
    entity_id     text NOT NULL,
    payload       text NOT NULL,
    size          integer NOT NULL,
    originated_at timestamptz NOT NULL,
    recorded_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    trace_parent  text,
    PRIMARY KEY (log_id, "offset"),
    CONSTRAINT events_event_id UNIQUE (log_id, event_id)
);

CREATE TABLE gatecast.cursors (
    gateway_id    text COLLATE "C" NOT NULL REFERENCES gatecast.gateway_streams ON DELETE CASCADE,
    replica       text NOT NULL,
    epoch         uuid NOT NULL,
    sent          bigint NOT NULL DEFAULT 0,
    confirmed     bigint NOT NULL DEFAULT 0,
    resync_reason text,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (gateway_id, replica)
) WITH (fillfactor = 70);

CREATE TABLE gatecast.pods (
    pod_id      text PRIMARY KEY,
    lease_until timestamptz NOT NULL,
    -- Of this row: a pod that was forgotten and comes back has another one.
    life        uuid NOT NULL DEFAULT gen_random_uuid()
);

CREATE TABLE gatecast.connections (
    connection_id text COLLATE "C" PRIMARY KEY,
    -- Grows in the order in which the connections of one position were opened.
    number        bigint GENERATED ALWAYS AS IDENTITY,
    gateway_id    text COLLATE "C" NOT NULL,
    replica       text NOT NULL,
    pod_id        text NOT NULL,
    protocol      text NOT NULL,
    remote        text NOT NULL,
    token_id      text,
    connected_at  timestamptz NOT NULL DEFAULT now(),
    sent          bigint NOT NULL,
    confirmed     bigint NOT NULL,
    dismissal     text,
    -- True once its pod's lease has run out and the position that it held back has been moved.
    released      boolean NOT NULL DEFAULT false
) WITH (fillfactor = 70);
CREATE INDEX connections_gateway ON gatecast.connections (gateway_id, replica);
CREATE INDEX connections_pod ON gatecast.connections (pod_id, dismissal);
CREATE INDEX connections_holding ON gatecast.connections (pod_id) WHERE NOT released;
CREATE INDEX connections_token ON gatecast.connections (token_id) WHERE token_id IS NOT NULL;

CREATE TABLE gatecast.outcomes (
    log_id      bigint NOT NULL,
    replica     text NOT NULL,
    "offset"    bigint NOT NULL,
    kind        text NOT NULL
                CHECK (kind IN ('applied', 'rejected', 'parked', 'held', 'retried', 'skipped', 'released')),
    reason      text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (log_id, "offset", replica)
);
CREATE INDEX outcomes_parking ON gatecast.outcomes (log_id, replica, kind, "offset")
    WHERE kind IN ('parked', 'held', 'retried', 'skipped', 'released', 'rejected');

-- Appending ---------------------------------------------------------------------------------------------------------
--
-- The row of gateway_streams is the lock of its gateway's log. Whoever holds it has seen every earlier commit of that
-- log, and nobody else can number events until it commits: commit order is offset order, so a reader that asks for
-- `offset > cursor` can never skip a commit that comes late.
--
-- Both functions lock first and look second. In READ COMMITTED each statement of a function has a snapshot of its own,
-- so the look behind the lock sees what the previous holder committed; a "check, then insert" in one statement does not.

-- Wakes the pods: one notification for one statement, at commit. `*` when the names do not fit (8,000 bytes).
CREATE FUNCTION gatecast.hint(gateway_ids text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    names text := to_json(gateway_ids)::text;
BEGIN
    PERFORM pg_notify('gatecast', CASE WHEN octet_length(names) < 7900 THEN names ELSE '*' END);
END $$;

-- Append one event. Status: stored, duplicate, unknown (no such gateway), busy (its log is held and wait is false).
CREATE FUNCTION gatecast.append_event(
    p_gateway_id text, p_event_id uuid, p_type text, p_action text, p_entity_type text, p_entity_id text,
    p_payload text, p_originated_at timestamptz, p_trace_parent text, p_wait boolean, p_hint boolean,
    OUT status text, OUT epoch uuid, OUT "offset" bigint
) LANGUAGE plpgsql AS $$
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

-- Append many events in groups that are stored whole or not at all. Element i of each array describes event i;
-- p_payload_numbers points into p_payloads, so that a fan-out carries its payload once. Returns one row for each
-- event, in order. Status: stored, duplicate, or why its group was refused: unknown or busy, with the gateway at fault
-- as `culprit`.
CREATE FUNCTION gatecast.append_events(
    p_groups integer[], p_gateway_ids text[], p_event_ids uuid[], p_types text[], p_actions text[],
    p_entity_types text[], p_entity_ids text[], p_originated_at timestamptz[], p_trace_parents text[],
    p_payload_numbers integer[], p_payloads text[], p_wait boolean, p_hint boolean
) RETURNS TABLE (number bigint, status text, culprit text, epoch uuid, "offset" bigint)
LANGUAGE plpgsql
-- Planning anew for each call costs more than a batch of eight; every access below is by key, whatever the sizes are.
SET plan_cache_mode = force_generic_plan
-- A plan made while a log was small would scan it, and be kept when it has grown.
SET enable_seqscan = off AS $$
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

-- Publish from any language, inside the caller's own transaction. Returns the offset; publishing the same event id
-- again returns the first one. Refuses what the library refuses.
CREATE FUNCTION gatecast.publish(
    gateway_id text, type text, action text, entity_type text, entity_id text, data json DEFAULT '{}',
    event_id uuid DEFAULT gen_random_uuid(), originated_at timestamptz DEFAULT clock_timestamp()
) RETURNS bigint LANGUAGE plpgsql AS $$
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

-- Positions ---------------------------------------------------------------------------------------------------------
--
-- Everything from here on works on keys that it is given or has just looked up. The planner cannot know how few they are
-- and would rather read a table as a whole; hence the settings on the functions.

-- Lock these positions, then everything that they depend on: two pods that report at the same time would otherwise each
-- see the other's old value as the slowest, and the position would stay behind for ever. Whoever changes connections of
-- more than one position comes here first, once, or two would wait for each other. Order of all locks: pods, streams,
-- outcomes, positions, connections.
CREATE FUNCTION gatecast.lock_positions(p_gateway_ids text[], p_replicas text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM gatecast.cursors c
    WHERE (c.gateway_id, c.replica) IN (SELECT * FROM unnest(p_gateway_ids, p_replicas))
    ORDER BY c.gateway_id, c.replica FOR NO KEY UPDATE;
    PERFORM FROM gatecast.connections o
    WHERE (o.gateway_id, o.replica) IN (SELECT * FROM unnest(p_gateway_ids, p_replicas))
    ORDER BY o.connection_id FOR NO KEY UPDATE;
END $$;

-- Move each of these positions to what its slowest connection has confirmed. Those of a dead pod count until they are
-- released. Who was dismissed counts no more: what it confirmed was perhaps sent again since, or before its gateway was
-- deleted and registered again under the same id.
CREATE FUNCTION gatecast.advance_positions(p_gateway_ids text[], p_replicas text[]) RETURNS void LANGUAGE sql AS $$
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

-- These connections have ended. One that ended before it confirmed its whole log may have been sent events again that
-- an older connection had confirmed: then the gateway needs also what came behind them again, so the older ones come
-- back and continue from the position. Their positions must be locked.
CREATE FUNCTION gatecast.dismiss_older(p_connection_ids text[]) RETURNS void LANGUAGE sql AS $$
    UPDATE gatecast.connections o SET dismissal = 'restarting'
    FROM gatecast.connections ended JOIN gatecast.gateway_streams s USING (gateway_id)
    WHERE ended.connection_id = ANY (p_connection_ids) AND ended.confirmed < s.head
      AND o.gateway_id = ended.gateway_id AND o.replica = ended.replica AND o.number < ended.number
      AND o.dismissal IS NULL
$$;

-- Record a connection that will read from p_start; false when the gateway or this history is gone. The position is
-- where it starts, unless a slower live connection shares it.
CREATE FUNCTION gatecast.connect(
    p_gateway_id text, p_replica text, p_connection_id text, p_pod_id text, p_protocol text, p_remote text,
    p_token_id text, p_epoch uuid, p_start bigint, p_newest_only boolean, p_resync_reason text
) RETURNS boolean LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
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

-- Store how far connections have come, and with p_remove forget them. Losing this at a crash only repeats events,
-- so it does not wait for the disk.
CREATE FUNCTION gatecast.record_progress(
    p_connection_ids text[], p_gateway_ids text[], p_replicas text[], p_epochs uuid[], p_sent bigint[],
    p_confirmed bigint[], p_remove boolean
) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
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

-- What became of pods: the connections of p_returned count again, those of p_ended have ended, and those of p_forgotten
-- are removed. Everything is locked at once, or two that look after pods would wait for each other.
CREATE FUNCTION gatecast.settle_pods(p_returned text[], p_ended text[], p_forgotten text[])
RETURNS void LANGUAGE plpgsql AS $$
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

-- Keep a pod alive and return its life. Looks after what dead pods left: their connections no longer hold
-- positions back, and long after its death a pod is forgotten.
CREATE FUNCTION gatecast.renew_lease(p_pod_id text, p_duration interval) RETURNS uuid LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
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

-- Remove a pod that has shut down in order, with its connections.
CREATE FUNCTION gatecast.end_lease(p_pod_id text) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
BEGIN
    DELETE FROM gatecast.pods WHERE pod_id = p_pod_id;
    PERFORM gatecast.settle_pods('{}', ARRAY[p_pod_id], ARRAY[p_pod_id]);
END $$;

-- Dismissing --------------------------------------------------------------------------------------------------------

-- Ask for the connections of these positions to be closed, those of one version or all.
CREATE FUNCTION gatecast.dismiss_positions(p_gateway_ids text[], p_replicas text[], p_protocol text DEFAULT NULL)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM gatecast.lock_positions(p_gateway_ids, p_replicas);
    UPDATE gatecast.connections o SET dismissal = 'restarting'
    WHERE (o.gateway_id, o.replica) IN (SELECT * FROM unnest(p_gateway_ids, p_replicas))
      AND o.dismissal IS NULL AND o.protocol = coalesce(p_protocol, o.protocol);
END $$;

-- Forget every connection of a history that has ended; they come again. A restore may even have brought back connections
-- that ended long ago, whose pods live: they would hold positions back for ever.
CREATE FUNCTION gatecast.forget_connections() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- As lock_positions, and in the same order: all of them.
    PERFORM FROM gatecast.cursors c ORDER BY c.gateway_id, c.replica FOR NO KEY UPDATE;
    PERFORM FROM gatecast.connections o ORDER BY o.connection_id FOR NO KEY UPDATE;
    DELETE FROM gatecast.connections;
END $$;

-- What waited for a decision was removed by a cap: then nobody believes that nothing is missing (promise P6).
CREATE FUNCTION gatecast.lose_parked(p_gateway_ids text[], p_replicas text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM gatecast.dismiss_positions(p_gateway_ids, p_replicas);
    UPDATE gatecast.cursors c SET resync_reason = 'parked'
    WHERE (c.gateway_id, c.replica) IN (SELECT * FROM unnest(p_gateway_ids, p_replicas));
END $$;

-- Ask for the connections that came with a token to be closed; tell how many there are.
CREATE FUNCTION gatecast.dismiss_token(p_token_id text) RETURNS bigint LANGUAGE plpgsql AS $$
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

-- Forget a gateway's log, positions and outcomes, and ask for its connections to be closed; false when there is none.
-- The stream's row is the lock, so nothing is appended any more. The events and outcomes may be so many that no one
-- statement should remove them: `trim_events` does, chunk by chunk.
CREATE FUNCTION gatecast.forget_gateway(p_gateway_id text) RETURNS boolean LANGUAGE plpgsql AS $$
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

-- Retention ---------------------------------------------------------------------------------------------------------

-- Remove at most p_chunk events of deleted gateways, with their outcomes, and return how many went. Nobody appends to
-- these logs, or reads them: their streams are gone.
CREATE FUNCTION gatecast.remove_forgotten(p_chunk integer) RETURNS bigint LANGUAGE plpgsql AS $$
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

-- Remove at most one chunk of old events and return how many went; those of deleted gateways go first. Skips logs that
-- are being written to, or whose outcomes are, so it makes no publisher wait and lets nothing slip through: it locks
-- first and looks at outcomes second, and whoever records outcomes finds what was removed.
CREATE FUNCTION gatecast.trim_events(
    p_keep_confirmed interval, p_keep_at_most interval, p_max_events bigint, p_chunk integer
) RETURNS bigint LANGUAGE plpgsql
-- Without statistics, after many events at once, a log would be read as a whole for its first chunk.
SET enable_bitmapscan = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
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
