-- The event log, positions, presence and outcomes. SQLite 3.38 or newer.
--
-- Times are text, "YYYY-MM-DD HH:MM:SS.ffffff+00:00": always UTC and always as wide, so they sort as they are.
-- Uuids are text.

-- One row. `last_change` rises with every transaction that changes a log: writers take turns, so a number that is
-- given earlier is also committed earlier, and a reader that remembers the last one can never skip a commit.
CREATE TABLE gatecast_epoch (
    only_row    integer PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    current     text NOT NULL,
    begun_at    text NOT NULL,
    last_change integer NOT NULL DEFAULT 0
);
INSERT INTO gatecast_epoch (current, begun_at) VALUES (gen_random_uuid(), now());

CREATE TABLE gatecast_gateway_streams (
    gateway_id      text PRIMARY KEY,
    -- A gateway that is registered again has another log: what is left of the first one is none of its business.
    log_id          integer NOT NULL,
    head            integer NOT NULL DEFAULT 0,
    trimmed_through integer NOT NULL DEFAULT 0,
    registered_in   text NOT NULL,
    changed_seq     integer NOT NULL
) WITHOUT ROWID;
CREATE INDEX gatecast_gateway_streams_changed ON gatecast_gateway_streams (changed_seq);

-- Logs of deleted gateways, whose events and outcomes are removed chunk by chunk.
CREATE TABLE gatecast_forgotten_logs (
    log_id integer PRIMARY KEY
);

-- Rows are appended to the table in the order of their commits and only the indexes are entered at random places: a
-- third less to write than with the primary key as the table itself. The payload stands last: whatever else is asked of
-- a row is read without following its overflow pages.
CREATE TABLE gatecast_events (
    log_id        integer NOT NULL,
    "offset"      integer NOT NULL,
    event_id      text NOT NULL,
    type          text NOT NULL,
    action        text NOT NULL,
    entity_type   text NOT NULL,
    entity_id     text NOT NULL,
    size          integer NOT NULL,
    originated_at text NOT NULL,
    recorded_at   text NOT NULL,
    trace_parent  text,
    payload       text NOT NULL,
    PRIMARY KEY (log_id, "offset")
);
CREATE UNIQUE INDEX gatecast_events_event_id ON gatecast_events (log_id, event_id);

CREATE TABLE gatecast_cursors (
    gateway_id    text NOT NULL REFERENCES gatecast_gateway_streams ON DELETE CASCADE,
    replica       text NOT NULL,
    epoch         text NOT NULL,
    sent          integer NOT NULL,
    confirmed     integer NOT NULL,
    resync_reason text,
    updated_at    text NOT NULL,
    PRIMARY KEY (gateway_id, replica)
) WITHOUT ROWID;

CREATE TABLE gatecast_pods (
    pod_id      text PRIMARY KEY,
    lease_until text NOT NULL,
    -- Of this row: a pod that was forgotten and comes back has another one.
    life        text NOT NULL
) WITHOUT ROWID;

CREATE TABLE gatecast_connections (
    -- Grows in the order in which the connections of one position were opened.
    number        integer PRIMARY KEY,
    connection_id text NOT NULL UNIQUE,
    gateway_id    text NOT NULL,
    replica       text NOT NULL,
    pod_id        text NOT NULL,
    protocol      text NOT NULL,
    remote        text NOT NULL,
    token_id      text,
    connected_at  text NOT NULL,
    sent          integer NOT NULL,
    confirmed     integer NOT NULL,
    dismissal     text,
    -- True once its pod's lease has run out and the position that it held back has been moved.
    released      integer NOT NULL DEFAULT false
);
CREATE INDEX gatecast_connections_gateway ON gatecast_connections (gateway_id, replica);
CREATE INDEX gatecast_connections_pod ON gatecast_connections (pod_id, dismissal);
CREATE INDEX gatecast_connections_holding ON gatecast_connections (pod_id) WHERE NOT released;
CREATE INDEX gatecast_connections_token ON gatecast_connections (token_id) WHERE token_id IS NOT NULL;

CREATE TABLE gatecast_outcomes (
    log_id      integer NOT NULL,
    "offset"    integer NOT NULL,
    replica     text NOT NULL,
    kind        text NOT NULL
                CHECK (kind IN ('applied', 'rejected', 'parked', 'held', 'retried', 'skipped', 'released')),
    reason      text NOT NULL,
    recorded_at text NOT NULL,
    PRIMARY KEY (log_id, "offset", replica)
) WITHOUT ROWID;
CREATE INDEX gatecast_outcomes_parking ON gatecast_outcomes (log_id, replica, kind, "offset")
    WHERE kind IN ('parked', 'held', 'retried', 'skipped', 'released', 'rejected');
