-- What no list repeats, and what only a lost history knew. Understood by PostgreSQL and SQLite alike.

-- The latest event of each entity that gateways ask for in no list, until it is deleted.
CREATE TABLE gatecast_kept_events (
    gateway_id  text NOT NULL REFERENCES gatecast_gateways (id) ON DELETE CASCADE,
    entity_type text NOT NULL,
    entity_id   text NOT NULL,
    type        text NOT NULL,
    action      text NOT NULL,
    payload     text NOT NULL,
    kept_at     timestamptz NOT NULL,
    PRIMARY KEY (gateway_id, entity_type, entity_id)
);

-- APIs that a gateway named after a history was lost, and that nobody here knows.
CREATE TABLE gatecast_unknown_apis (
    gateway_id  text NOT NULL REFERENCES gatecast_gateways (id) ON DELETE CASCADE,
    artifact_id text NOT NULL,
    PRIMARY KEY (gateway_id, artifact_id)
);
