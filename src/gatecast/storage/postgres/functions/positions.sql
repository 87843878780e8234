-- Positions of gateways, and the connections that move them.
--
-- Everything from here on works on keys that it is given or has just looked up. The planner cannot know how few they are
-- and would rather read a table as a whole; hence the settings on the functions.

-- Lock these positions, then everything that they depend on: two pods that report at the same time would otherwise each
-- see the other's old value as the slowest, and the position would lag for ever. A change to connections of more than
-- one position calls this first, once, or two changes would deadlock. Order of all locks: pods, streams, outcomes,
-- positions, connections.
CREATE OR REPLACE FUNCTION gatecast.lock_positions_v1(p_gateway_ids text[], p_replicas text[]) RETURNS void LANGUAGE plpgsql SET jit = off AS $$
BEGIN
    PERFORM FROM gatecast.cursors c
    WHERE (c.gateway_id, c.replica) IN (SELECT * FROM unnest(p_gateway_ids, p_replicas))
    ORDER BY c.gateway_id, c.replica FOR NO KEY UPDATE;
    PERFORM FROM gatecast.connections o
    WHERE (o.gateway_id, o.replica) IN (SELECT * FROM unnest(p_gateway_ids, p_replicas))
    ORDER BY o.connection_id FOR NO KEY UPDATE;
END $$;

-- A replica has read the desired state again, for this reason and no later one. Events that are lost while it reads may be
-- lost for the same reason: then its connection has to end. Lock before read, or that would not be seen here.
CREATE OR REPLACE FUNCTION gatecast.resynchronized_v1(
    p_gateway_id text, p_replica text, p_reason text, p_connection_id text
) RETURNS void LANGUAGE plpgsql SET jit = off AS $$
BEGIN
    PERFORM gatecast.lock_positions_v1(ARRAY[p_gateway_id], ARRAY[p_replica]);
    UPDATE gatecast.cursors c SET resync_reason = NULL, updated_at = now()
    WHERE c.gateway_id = p_gateway_id AND c.replica = p_replica AND c.resync_reason = p_reason
      AND (p_connection_id IS NULL OR EXISTS (
          SELECT FROM gatecast.connections o WHERE o.connection_id = p_connection_id AND o.dismissal IS NULL));
END $$;

-- Move each of these positions to what its slowest connection has confirmed. Those of a dead pod count until they are
-- released. A connection told to close no longer counts: its events were perhaps sent again since, or its gateway was
-- deleted and registered again under the same id.
CREATE OR REPLACE FUNCTION gatecast.advance_positions_v1(p_gateway_ids text[], p_replicas text[]) RETURNS void LANGUAGE sql SET jit = off AS $$
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

-- These connections have ended. A connection that ended before it confirmed its whole log may have received events
-- again that an older connection had confirmed. Then the gateway also needs the later events again, so older
-- connections are closed and continue from the position. Their positions must be locked.
CREATE OR REPLACE FUNCTION gatecast.dismiss_older_v1(p_connection_ids text[]) RETURNS void LANGUAGE sql SET jit = off AS $$
    UPDATE gatecast.connections o SET dismissal = 'restarting'
    FROM gatecast.connections ended JOIN gatecast.gateway_streams s USING (gateway_id)
    WHERE ended.connection_id = ANY (p_connection_ids) AND ended.confirmed < s.head
      AND o.gateway_id = ended.gateway_id AND o.replica = ended.replica AND o.number < ended.number
      AND o.dismissal IS NULL
$$;

-- Record a connection that will read from p_start; false when the gateway or this history is gone. The position is
-- where it starts, unless a slower live connection shares it.
CREATE OR REPLACE FUNCTION gatecast.connect_v1(
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
    -- The events were lost on the way here: the replica must reconnect to learn of it.
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
    -- Keep the newest 100: a gateway that reconnects again and again without progress would fill the table.
    DELETE FROM gatecast.passages t USING gatecast.gateway_streams s
    WHERE s.gateway_id = p_gateway_id AND t.log_id = s.log_id AND t.through > p_start AND t.through <= p_start + 1000
      AND t.number IN (
          SELECT e.number FROM gatecast.passages e
          WHERE e.log_id = s.log_id AND e.through > p_start AND e.through <= p_start + 1000 AND e.replica = p_replica
          ORDER BY e.number DESC OFFSET 100);
    INSERT INTO gatecast.connections (connection_id, gateway_id, replica, pod_id, protocol, remote, token_id, sent,
                                      confirmed)
    VALUES (p_connection_id, p_gateway_id, p_replica, p_pod_id, p_protocol, p_remote, p_token_id, p_start, p_start);
    RETURN true;
END $$;

-- As connect, but false instead of a long wait for a lock. A short wait is needed: that another transaction makes the
-- same new position shows only when it is made.
CREATE OR REPLACE FUNCTION gatecast.connect_at_once_v1(
    p_gateway_id text, p_replica text, p_connection_id text, p_pod_id text, p_protocol text, p_remote text,
    p_token_id text, p_epoch uuid, p_start bigint, p_newest_only boolean, p_resync_reason text
) RETURNS boolean LANGUAGE plpgsql SET lock_timeout = '10ms' SET jit = off AS $$
BEGIN
    PERFORM FROM gatecast.gateway_streams s WHERE s.gateway_id = p_gateway_id FOR KEY SHARE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM FROM gatecast.cursors c WHERE c.gateway_id = p_gateway_id AND c.replica = p_replica
    FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND AND EXISTS (
        SELECT FROM gatecast.cursors c WHERE c.gateway_id = p_gateway_id AND c.replica = p_replica) THEN
        RETURN false;
    END IF;
    RETURN gatecast.connect_v1(p_gateway_id, p_replica, p_connection_id, p_pod_id, p_protocol, p_remote, p_token_id,
                               p_epoch, p_start, p_newest_only, p_resync_reason);
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END $$;

-- Record many connections, and return the ids of those that were recorded. Without p_waits none waits for a lock: a
-- connection that would wait is left out. New positions are made in one order, so that no two pods deadlock.
CREATE OR REPLACE FUNCTION gatecast.connect_many_v1(
    p_gateway_ids text[], p_replicas text[], p_connection_ids text[], p_pod_ids text[], p_protocols text[],
    p_remotes text[], p_token_ids text[], p_epochs uuid[], p_starts bigint[], p_newest_only boolean[],
    p_resync_reasons text[], p_waits boolean
) RETURNS SETOF text LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
DECLARE
    o record;
    recorded boolean;
BEGIN
    IF NOT (SELECT h.servable FROM gatecast.history_v1() h) THEN
        RETURN;
    END IF;
    FOR o IN
        SELECT * FROM unnest(p_gateway_ids, p_replicas, p_connection_ids, p_pod_ids, p_protocols, p_remotes, p_token_ids,
                             p_epochs, p_starts, p_newest_only, p_resync_reasons)
                      AS u(gateway_id, replica, connection_id, pod_id, protocol, remote, token_id, epoch, start,
                           newest_only, resync_reason)
        ORDER BY u.gateway_id, u.replica, u.connection_id
    LOOP
        IF p_waits THEN
            recorded := gatecast.connect_v1(o.gateway_id, o.replica, o.connection_id, o.pod_id, o.protocol, o.remote,
                                            o.token_id, o.epoch, o.start, o.newest_only, o.resync_reason);
        ELSE
            recorded := gatecast.connect_at_once_v1(o.gateway_id, o.replica, o.connection_id, o.pod_id, o.protocol,
                                                    o.remote, o.token_id, o.epoch, o.start, o.newest_only,
                                                    o.resync_reason);
        END IF;
        IF recorded THEN
            RETURN NEXT o.connection_id;
        END IF;
    END LOOP;
END $$;

-- As `connect_many_v1`. Returning connections, each with a free position of its own, are recorded together: a loop
-- costs four statements and a subtransaction for each. The others take that loop: a gateway that connects for the first
-- time, whose new position may wait for a lock, or twice in one call, or has to resynchronize.
CREATE OR REPLACE FUNCTION gatecast.connect_many_v2(
    p_gateway_ids text[], p_replicas text[], p_connection_ids text[], p_pod_ids text[], p_protocols text[],
    p_remotes text[], p_token_ids text[], p_epochs uuid[], p_starts bigint[], p_newest_only boolean[],
    p_resync_reasons text[], p_waits boolean
) RETURNS SETOF text LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    -- Numbers of the connections, in the arrays.
    free bigint[];
    rest bigint[];
BEGIN
    IF p_waits OR cardinality(p_gateway_ids) = 1 OR NOT (SELECT h.servable FROM gatecast.history_v1() h) THEN
        RETURN QUERY SELECT * FROM gatecast.connect_many_v1(
            p_gateway_ids, p_replicas, p_connection_ids, p_pod_ids, p_protocols, p_remotes, p_token_ids, p_epochs,
            p_starts, p_newest_only, p_resync_reasons, p_waits);
        RETURN;
    END IF;
    -- Two statements for two locks, as in `connect_v1`: first the log, so that its gateway is not deleted.
    WITH ordinary AS MATERIALIZED (
        SELECT min(u.number) AS number, u.gateway_id
        FROM unnest(p_gateway_ids, p_replicas, p_newest_only, p_resync_reasons)
                 WITH ORDINALITY AS u(gateway_id, replica, newest_only, resync_reason, number)
        GROUP BY u.gateway_id, u.replica
        HAVING count(*) = 1 AND NOT bool_or(u.newest_only) AND count(u.resync_reason) = 0
        ORDER BY u.gateway_id, u.replica
    ), held AS (
        SELECT r.number FROM ordinary r JOIN gatecast.gateway_streams s ON s.gateway_id = r.gateway_id
        WHERE s.head >= p_starts[r.number] AND p_epochs[r.number] = (SELECT e.current FROM gatecast.epoch e)
        FOR KEY SHARE OF s SKIP LOCKED
    )
    SELECT array_agg(number) INTO free FROM held;
    WITH held AS (
        SELECT r.number FROM unnest(free) AS r(number)
             JOIN gatecast.cursors c ON c.gateway_id = p_gateway_ids[r.number] AND c.replica = p_replicas[r.number]
        WHERE c.resync_reason IS DISTINCT FROM 'parked'
        FOR NO KEY UPDATE OF c SKIP LOCKED
    )
    SELECT array_agg(number) INTO free FROM held;
    -- Where it starts, unless a slower live connection shares the position.
    UPDATE gatecast.cursors c
    SET epoch = p_epochs[r.number], resync_reason = NULL, updated_at = now(),
        confirmed = least(p_starts[r.number], (
            SELECT min(o.confirmed) FROM gatecast.connections o
            WHERE o.gateway_id = c.gateway_id AND o.replica = c.replica AND NOT o.released AND o.dismissal IS NULL)),
        sent = CASE WHEN c.epoch = p_epochs[r.number] THEN greatest(c.sent, p_starts[r.number])
                    ELSE p_starts[r.number] END
    FROM unnest(free) AS r(number)
    WHERE c.gateway_id = p_gateway_ids[r.number] AND c.replica = p_replicas[r.number];
    -- Keep the newest 100: a gateway that reconnects again and again without progress would fill the table.
    DELETE FROM gatecast.passages t
    USING unnest(free) AS r(number)
         JOIN gatecast.gateway_streams s ON s.gateway_id = p_gateway_ids[r.number]
         CROSS JOIN LATERAL (
             SELECT e.through, e.number FROM gatecast.passages e
             WHERE e.log_id = s.log_id AND e.through > p_starts[r.number] AND e.through <= p_starts[r.number] + 1000
               AND e.replica = p_replicas[r.number]
             ORDER BY e.number DESC OFFSET 100 FOR UPDATE SKIP LOCKED) old
    WHERE t.log_id = s.log_id AND t.through = old.through AND t.number = old.number;
    RETURN QUERY INSERT INTO gatecast.connections (
        connection_id, gateway_id, replica, pod_id, protocol, remote, token_id, sent, confirmed)
    SELECT p_connection_ids[r.number], p_gateway_ids[r.number], p_replicas[r.number], p_pod_ids[r.number],
           p_protocols[r.number], p_remotes[r.number], p_token_ids[r.number], p_starts[r.number], p_starts[r.number]
    FROM unnest(free) AS r(number)
    RETURNING connection_id;
    SELECT array_agg(u.number) INTO rest FROM generate_subscripts(p_gateway_ids, 1) AS u(number)
    WHERE u.number <> ALL (coalesce(free, '{}'));
    IF rest IS NOT NULL THEN
        RETURN QUERY SELECT c.* FROM (
            SELECT array_agg(p_gateway_ids[u]) AS gateway_ids, array_agg(p_replicas[u]) AS replicas,
                   array_agg(p_connection_ids[u]) AS connection_ids, array_agg(p_pod_ids[u]) AS pod_ids,
                   array_agg(p_protocols[u]) AS protocols, array_agg(p_remotes[u]) AS remotes,
                   array_agg(p_token_ids[u]) AS token_ids, array_agg(p_epochs[u]) AS epochs,
                   array_agg(p_starts[u]) AS starts, array_agg(p_newest_only[u]) AS newest_only,
                   array_agg(p_resync_reasons[u]) AS resync_reasons
            FROM unnest(rest) AS u) a
        CROSS JOIN LATERAL gatecast.connect_many_v1(
            a.gateway_ids, a.replicas, a.connection_ids, a.pod_ids, a.protocols, a.remotes, a.token_ids, a.epochs,
            a.starts, a.newest_only, a.resync_reasons, false) AS c;
    END IF;
END $$;

-- Store how far connections have come, and when events passed which hop (see passages): row i of p_offsets holds, for
-- each hop, after and through, and row i of p_instants first and last. With p_remove forget the connections. Losing this
-- at a crash only repeats events, so it does not wait for the disk.
CREATE OR REPLACE FUNCTION gatecast.record_progress_v2(
    p_connection_ids text[], p_gateway_ids text[], p_replicas text[], p_epochs uuid[], p_sent bigint[],
    p_confirmed bigint[], p_remove boolean, p_offsets bigint[], p_instants double precision[]
) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM gatecast.lock_positions_v1(p_gateway_ids, p_replicas);
    -- Not for a connection told to close: its gateway was perhaps deleted and registered again under the same id. The
    -- position is locked, so nobody deletes the gateway between this and the commit.
    INSERT INTO gatecast.passages (log_id, through, replica, connection_id, pod_id,
                                   picked_up_after, picked_up_through, picked_up_first, picked_up_last,
                                   sent_after, sent_through, sent_first, sent_last,
                                   confirmed_after, confirmed_through, confirmed_first, confirmed_last)
    SELECT s.log_id, greatest(p_offsets[p.i][2], p_offsets[p.i][4], p_offsets[p.i][6]), o.replica, o.connection_id,
           o.pod_id, p_offsets[p.i][1], p_offsets[p.i][2], p_instants[p.i][1], p_instants[p.i][2],
           p_offsets[p.i][3], p_offsets[p.i][4], p_instants[p.i][3], p_instants[p.i][4],
           p_offsets[p.i][5], p_offsets[p.i][6], p_instants[p.i][5], p_instants[p.i][6]
    FROM unnest(p_connection_ids, p_epochs) WITH ORDINALITY AS p(connection_id, epoch, i)
         JOIN gatecast.connections o ON o.connection_id = p.connection_id AND o.dismissal IS NULL
         JOIN gatecast.cursors c ON c.gateway_id = o.gateway_id AND c.replica = o.replica
         JOIN gatecast.gateway_streams s ON s.gateway_id = o.gateway_id
    WHERE p.epoch = (SELECT e.current FROM gatecast.epoch e)
      AND greatest(p_offsets[p.i][2], p_offsets[p.i][4], p_offsets[p.i][6]) > 0;
    -- A connection that reports is alive, even if its pod's lease ran out.
    UPDATE gatecast.connections o
    SET sent = greatest(o.sent, p.sent), confirmed = greatest(o.confirmed, p.confirmed), released = false
    FROM (SELECT u.connection_id, max(u.sent) AS sent, max(u.confirmed) AS confirmed
          FROM unnest(p_connection_ids, p_epochs, p_sent, p_confirmed) AS u(connection_id, epoch, sent, confirmed)
          WHERE u.epoch = (SELECT e.current FROM gatecast.epoch e) GROUP BY u.connection_id) p
    WHERE o.connection_id = p.connection_id;
    IF p_remove THEN
        PERFORM gatecast.dismiss_older_v1(p_connection_ids);
    END IF;
    PERFORM gatecast.advance_positions_v1(p_gateway_ids, p_replicas);
    IF p_remove THEN
        -- Leaving connections have counted for the last time; now only the others move the position.
        DELETE FROM gatecast.connections o WHERE o.connection_id = ANY (p_connection_ids);
        PERFORM gatecast.advance_positions_v1(p_gateway_ids, p_replicas);
    END IF;
END $$;

-- For pods of the release that did not tell when.
CREATE OR REPLACE FUNCTION gatecast.record_progress_v1(
    p_connection_ids text[], p_gateway_ids text[], p_replicas text[], p_epochs uuid[], p_sent bigint[],
    p_confirmed bigint[], p_remove boolean
) RETURNS void LANGUAGE sql SET jit = off AS $$
    SELECT gatecast.record_progress_v2(p_connection_ids, p_gateway_ids, p_replicas, p_epochs, p_sent, p_confirmed,
                                       p_remove, '{}', '{}')
$$;
