-- Asking pods to close connections.

-- Ask for the connections of these positions to be closed, those of one version or all.
CREATE OR REPLACE FUNCTION gatecast.dismiss_positions_v1(p_gateway_ids text[], p_replicas text[], p_protocol text DEFAULT NULL)
RETURNS void LANGUAGE plpgsql SET jit = off AS $$
BEGIN
    PERFORM gatecast.lock_positions_v1(p_gateway_ids, p_replicas);
    UPDATE gatecast.connections o SET dismissal = 'restarting'
    WHERE (o.gateway_id, o.replica) IN (SELECT * FROM unnest(p_gateway_ids, p_replicas))
      AND o.dismissal IS NULL AND o.protocol = coalesce(p_protocol, o.protocol);
END $$;

-- Forget every connection of a history that has ended; they come again. A restore may even have brought back connections
-- that ended long ago, whose pods live: they would hold positions back for ever.
CREATE OR REPLACE FUNCTION gatecast.forget_connections_v1() RETURNS void LANGUAGE plpgsql SET jit = off AS $$
BEGIN
    -- As lock_positions, and in the same order: all of them.
    PERFORM FROM gatecast.cursors c ORDER BY c.gateway_id, c.replica FOR NO KEY UPDATE;
    PERFORM FROM gatecast.connections o ORDER BY o.connection_id FOR NO KEY UPDATE;
    DELETE FROM gatecast.connections;
END $$;

-- A cap removed parked events: these replicas must learn that events are missing (promise P6).
CREATE OR REPLACE FUNCTION gatecast.lose_parked_v1(p_gateway_ids text[], p_replicas text[]) RETURNS void LANGUAGE plpgsql SET jit = off AS $$
BEGIN
    PERFORM gatecast.dismiss_positions_v1(p_gateway_ids, p_replicas);
    UPDATE gatecast.cursors c SET resync_reason = 'parked'
    WHERE (c.gateway_id, c.replica) IN (SELECT * FROM unnest(p_gateway_ids, p_replicas));
END $$;

-- Ask for the connections that came with a token to be closed; tell how many there are.
CREATE OR REPLACE FUNCTION gatecast.dismiss_token_v1(p_token_id text) RETURNS bigint LANGUAGE plpgsql SET jit = off AS $$
DECLARE
    dismissed bigint;
    gateway_ids text[];
    replicas text[];
    connection_ids text[];
BEGIN
    PERFORM gatecast.check_not_closed_v1();
    SELECT array_agg(o.gateway_id), array_agg(o.replica), array_agg(o.connection_id)
    INTO gateway_ids, replicas, connection_ids FROM gatecast.connections o WHERE o.token_id = p_token_id;
    PERFORM gatecast.lock_positions_v1(gateway_ids, replicas);
    -- These and no others: the position of a connection that came while we waited is not locked here. Its pod checks
    -- the token once more after it has recorded the connection, and finds it revoked.
    UPDATE gatecast.connections SET dismissal = 'token-revoked' WHERE connection_id = ANY (connection_ids);
    GET DIAGNOSTICS dismissed = ROW_COUNT;
    RETURN dismissed;
END $$;

-- Ask for one connection to be closed; false when the gateway has none of this id that is not closing already.
CREATE OR REPLACE FUNCTION gatecast.dismiss_connection_v1(p_gateway_id text, p_connection_id text)
RETURNS boolean LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
BEGIN
    PERFORM gatecast.lock_positions_v1(array_agg(o.gateway_id), array_agg(o.replica))
    FROM gatecast.connections o WHERE o.connection_id = p_connection_id AND o.gateway_id = p_gateway_id;
    UPDATE gatecast.connections SET dismissal = 'restarting'
    WHERE connection_id = p_connection_id AND gateway_id = p_gateway_id AND dismissal IS NULL;
    RETURN FOUND;
END $$;

-- Forget a gateway's log, positions and outcomes, and ask for its connections to be closed; false when there is none.
-- The stream's row is the lock, so nothing more is appended. The events and outcomes may be so many that no one
-- statement should remove them: `trim_events` does, chunk by chunk.
CREATE OR REPLACE FUNCTION gatecast.forget_gateway_v1(p_gateway_id text) RETURNS boolean LANGUAGE plpgsql SET jit = off AS $$
BEGIN
    PERFORM FROM gatecast.gateway_streams WHERE gateway_id = p_gateway_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM gatecast.lock_positions_v1(array_agg(c.gateway_id), array_agg(c.replica))
    FROM gatecast.cursors c WHERE c.gateway_id = p_gateway_id;
    WITH gone AS (DELETE FROM gatecast.gateway_streams WHERE gateway_id = p_gateway_id RETURNING log_id)
    INSERT INTO gatecast.forgotten_logs (log_id) SELECT log_id FROM gone;
    UPDATE gatecast.connections SET dismissal = 'gateway-deleted' WHERE gateway_id = p_gateway_id;
    RETURN true;
END $$;
