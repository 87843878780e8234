-- Leases of pods, and the clean-up of dead pods' connections.

-- Apply what became of pods: the connections of p_returned count again, those of p_ended have ended, and those of
-- p_forgotten are removed. Everything is locked at once, or two concurrent calls would deadlock.
CREATE OR REPLACE FUNCTION gatecast.settle_pods_v1(p_returned text[], p_ended text[], p_forgotten text[])
RETURNS void LANGUAGE plpgsql SET jit = off AS $$
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
    PERFORM gatecast.lock_positions_v1(gateway_ids, replicas);
    PERFORM gatecast.dismiss_older_v1(ended);
    UPDATE gatecast.connections SET released = true WHERE connection_id = ANY (ended);
    UPDATE gatecast.connections SET released = false
    WHERE connection_id = ANY (connection_ids) AND pod_id = ANY (p_returned) AND released;
    DELETE FROM gatecast.connections WHERE connection_id = ANY (connection_ids) AND pod_id = ANY (p_forgotten);
    PERFORM gatecast.advance_positions_v1(gateway_ids, replicas);
END $$;

-- Keep a pod alive and return its incarnation. Cleans up after dead pods: their connections no longer hold positions
-- back, and long after its death a pod is forgotten. A renewal that a crash undoes is made again, so it waits neither
-- for the disk nor for a standby: pods live on while commits wait for a standby that is gone.
CREATE OR REPLACE FUNCTION gatecast.renew_lease_v1(p_pod_id text, p_duration interval) RETURNS uuid LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
DECLARE
    known boolean := EXISTS (SELECT FROM gatecast.pods p WHERE p.pod_id = p_pod_id);
    -- While its lease had lapsed, its own connections did not count, and positions may not have moved for them.
    returned text[] := ARRAY(SELECT p.pod_id FROM gatecast.pods p WHERE p.pod_id = p_pod_id AND p.lease_until <= now());
    ended text[];
    forgotten text[];
    present_life uuid;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO gatecast.pods AS p (pod_id, lease_until) VALUES (p_pod_id, now() + p_duration)
    ON CONFLICT (pod_id) DO UPDATE SET lease_until = excluded.lease_until RETURNING p.life INTO present_life;
    -- One renewal does it for all pods, once for each death: a renewal that finds a pod locked leaves it to the holder.
    ended := ARRAY(
        SELECT p.pod_id FROM gatecast.pods p
        WHERE p.lease_until <= now() AND p.pod_id <> p_pod_id
          AND EXISTS (SELECT FROM gatecast.connections o WHERE o.pod_id = p.pod_id AND NOT o.released)
        FOR UPDATE OF p SKIP LOCKED);
    forgotten := ARRAY(
        SELECT p.pod_id FROM gatecast.pods p
        WHERE p.lease_until < now() - interval '10 minutes' AND p.pod_id <> p_pod_id FOR UPDATE SKIP LOCKED);
    IF NOT known THEN
        -- A gateway may have connected to a pod just when it was forgotten.
        ended := ended || ARRAY(SELECT DISTINCT o.pod_id FROM gatecast.connections o
                                WHERE NOT o.released AND NOT EXISTS (
                                    SELECT FROM gatecast.pods p WHERE p.pod_id = o.pod_id));
    END IF;
    IF returned || ended || forgotten <> '{}' THEN
        PERFORM gatecast.settle_pods_v1(returned, ended, forgotten);
        DELETE FROM gatecast.pods WHERE pod_id = ANY (forgotten);
    END IF;
    RETURN present_life;
END $$;

-- Remove a pod that has shut down in order, with its connections.
CREATE OR REPLACE FUNCTION gatecast.end_lease_v1(p_pod_id text) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
BEGIN
    DELETE FROM gatecast.pods WHERE pod_id = p_pod_id;
    PERFORM gatecast.settle_pods_v1('{}', ARRAY[p_pod_id], ARRAY[p_pod_id]);
END $$;
