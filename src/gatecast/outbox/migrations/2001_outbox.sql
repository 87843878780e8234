-- What an outbox keeps beside its entries, which are the events of its logs. Understood by PostgreSQL and SQLite alike.

-- One row: which process forwards.
CREATE TABLE gatecast_outbox_forwarder (
    only_row integer PRIMARY KEY CHECK (only_row = 1),
    -- Empty if nobody does: the last one stopped in order.
    pod_id   text NOT NULL,
    -- The fence: each takeover begins a term with a name of its own, and what is recorded names its term.
    term     text NOT NULL,
    -- Rises while the forwarder lives. Whoever has seen it stand still for as long as a lease may take over.
    beats    bigint NOT NULL
);
INSERT INTO gatecast_outbox_forwarder (only_row, pod_id, term, beats) VALUES (1, '', '', 0);

-- A row for each gateway whose log was made, or found, by forwarding.
CREATE TABLE gatecast_outbox_gateways (
    gateway_id text PRIMARY KEY,
    -- The gateway's log in the outbox. A gateway that is deleted and registered again has another one.
    outbox_log bigint NOT NULL,
    -- Every entry up to this offset of it is in the gateway's log, or was left out.
    forwarded  bigint NOT NULL,
    -- Where the gateway's log ended when that was recorded; no epoch until it is sure that there is a log.
    log_epoch  text NOT NULL,
    log_head   bigint NOT NULL,
    -- The offset of the entry that the log has refused, and why; 0 if it has refused none.
    refused    bigint NOT NULL DEFAULT 0,
    reason     text NOT NULL DEFAULT ''
);
