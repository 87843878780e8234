-- What is known of a gateway's own database, and its start-up calls. Understood by PostgreSQL and SQLite alike.

-- Why the last event of a placement must be published again; empty: it waits for its answer, or has it.
ALTER TABLE gatecast_placements ADD COLUMN doubt text NOT NULL DEFAULT '';
-- So often it was asked again because the answer could not count.
ALTER TABLE gatecast_placements ADD COLUMN tries bigint NOT NULL DEFAULT 0;
-- Changes of the artifact's keys up to this version are published to the gateway; -1: nothing is known of its keys.
ALTER TABLE gatecast_placements ADD COLUMN keys_through bigint NOT NULL DEFAULT -1;
-- Since the gateway's process started: -1 it was not listed as it is now, 0 listed, else fetched, with the instant of
-- this event.
ALTER TABLE gatecast_placements ADD COLUMN fetched bigint NOT NULL DEFAULT -1;

UPDATE gatecast_placements SET keys_through = (
    SELECT coalesce(max(k.updated_at), 0) FROM gatecast_api_keys AS k
    WHERE k.artifact_id = gatecast_placements.artifact_id);

-- Why a gateway may run what nobody here knows: a lost history; empty: it does not.
ALTER TABLE gatecast_gateways ADD COLUMN unlisted text NOT NULL DEFAULT '';

-- The newest start-up calls of each gateway, by the clock of the database.
CREATE TABLE gatecast_synchronizations (
    gateway_id   text PRIMARY KEY REFERENCES gatecast_gateways (id) ON DELETE CASCADE,
    -- Rises with every first call.
    number       bigint NOT NULL,
    began_at     timestamptz NOT NULL,
    called_at    timestamptz NOT NULL,
    finished_at  timestamptz,
    -- Whether this one asked for the list of deployments: its process has just started.
    listed       boolean NOT NULL,
    -- Whether it was given the secrets that documents ask for.
    secrets_read boolean NOT NULL
);
