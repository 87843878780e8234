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

-- Logs of deleted gateways, whose events and outcomes are removed chunk by chunk: see functions/retention.sql.
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
