-- What an outbox does in its log besides publishing: registering gateways under a claim, and deleting logs that it
-- names. Each is one statement, and waits half a second at most: a held log delays no other gateway (promise P7).

-- Make this the claim of its owner. Registrations under an earlier claim are committed by then.
CREATE OR REPLACE FUNCTION gatecast.claim_v1(p_owner text, p_token text) RETURNS void LANGUAGE plpgsql
SET lock_timeout = '500ms' SET jit = off AS $$
BEGIN
    INSERT INTO gatecast.claims (owner, token) VALUES (p_owner, p_token)
    ON CONFLICT (owner) DO UPDATE SET token = excluded.token;
END $$;

-- Register a gateway; false when it has a log, and null when the claim is void. The lock comes first: a newer claim waits
-- until this registration is committed.
CREATE OR REPLACE FUNCTION gatecast.register_under_claim_v1(p_gateway_id text, p_owner text, p_token text) RETURNS boolean
LANGUAGE plpgsql SET lock_timeout = '500ms' SET jit = off AS $$
BEGIN
    PERFORM FROM gatecast.claims c WHERE c.owner = p_owner AND c.token = p_token FOR SHARE;
    RETURN CASE WHEN FOUND THEN gatecast.register_gateway(p_gateway_id) END;
END $$;

-- Forget a gateway as `forget_gateway` does, if this is its log: it cannot be replaced while its row is locked.
CREATE OR REPLACE FUNCTION gatecast.forget_log_v1(p_gateway_id text, p_log_id bigint) RETURNS boolean LANGUAGE plpgsql
SET lock_timeout = '500ms' SET jit = off AS $$
BEGIN
    PERFORM FROM gatecast.gateway_streams s WHERE s.gateway_id = p_gateway_id AND s.log_id = p_log_id FOR UPDATE;
    IF NOT FOUND OR NOT gatecast.forget_gateway_v1(p_gateway_id) THEN
        RETURN false;
    END IF;
    PERFORM gatecast.hint_v1(NULL);
    RETURN true;
END $$;
