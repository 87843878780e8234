-- What runs on gateways: artifacts, their revisions, their keys. Understood by PostgreSQL and SQLite alike.
-- Columns of type bytea are sealed (gatecast.controlplane.encryption). Times in bigint are milliseconds since 1970.

CREATE TABLE gatecast_artifacts (
    id               text PRIMARY KEY,
    organization     text NOT NULL,
    kind             text NOT NULL,
    handle           text NOT NULL,
    name             text NOT NULL,
    artifact_version text NOT NULL,
    -- What operators wrote last.
    content_id       text NOT NULL,
    version          bigint NOT NULL,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    UNIQUE (organization, kind, handle),
    UNIQUE (organization, kind, name, artifact_version)
);

-- Credentials. Never changed: a new value is a new secret, so that gateways, which keep what they fetched, fetch it.
CREATE TABLE gatecast_secrets (
    handle      text PRIMARY KEY,
    artifact_id text NOT NULL REFERENCES gatecast_artifacts (id) ON DELETE CASCADE,
    value       bytea NOT NULL,
    created_at  timestamptz NOT NULL
);
CREATE INDEX gatecast_secrets_artifact ON gatecast_secrets (artifact_id);

-- What artifacts are and were: the document as operators wrote it, and as gateways download it. Never changed.
CREATE TABLE gatecast_contents (
    id               text PRIMARY KEY,
    artifact_id      text NOT NULL REFERENCES gatecast_artifacts (id) ON DELETE CASCADE,
    name             text NOT NULL,
    artifact_version text NOT NULL,
    document         bytea NOT NULL,
    -- JSON: the handle of the secret at each place of the document that needs one.
    credentials      text NOT NULL,
    content          bytea NOT NULL
);
CREATE INDEX gatecast_contents_artifact ON gatecast_contents (artifact_id);

-- Which proxy needs which provider. The content of an earlier revision may need one that is gone.
CREATE TABLE gatecast_content_needs (
    content_id  text NOT NULL REFERENCES gatecast_contents (id) ON DELETE CASCADE,
    provider_id text NOT NULL,
    PRIMARY KEY (content_id, provider_id)
);
CREATE INDEX gatecast_content_needs_provider ON gatecast_content_needs (provider_id);

CREATE TABLE gatecast_content_secrets (
    content_id text NOT NULL REFERENCES gatecast_contents (id) ON DELETE CASCADE,
    handle     text NOT NULL,
    PRIMARY KEY (content_id, handle)
);

-- Where an artifact is, or has been. A placement outlives its artifact until the gateway has confirmed the deletion.
CREATE TABLE gatecast_placements (
    artifact_id   text NOT NULL,
    gateway_id    text NOT NULL REFERENCES gatecast_gateways (id) ON DELETE CASCADE,
    kind          text NOT NULL,
    -- DEPLOYED, UNDEPLOYED or DELETED.
    desired       text NOT NULL,
    deployment_id text NOT NULL,
    -- Of the last event; the next one is later, whatever the clocks say.
    performed_at  bigint NOT NULL,
    event_id      text NOT NULL,
    -- The deployment that the gateway said it has; empty when that is not known.
    held          text NOT NULL,
    PRIMARY KEY (artifact_id, gateway_id)
);
CREATE INDEX gatecast_placements_gateway ON gatecast_placements (gateway_id);

CREATE TABLE gatecast_deployments (
    id           text PRIMARY KEY,
    artifact_id  text NOT NULL REFERENCES gatecast_artifacts (id) ON DELETE CASCADE,
    gateway_id   text NOT NULL REFERENCES gatecast_gateways (id) ON DELETE CASCADE,
    revision     bigint NOT NULL,
    content_id   text NOT NULL REFERENCES gatecast_contents (id),
    state        text NOT NULL,
    reason       text NOT NULL,
    performed_at bigint NOT NULL,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    UNIQUE (artifact_id, gateway_id, revision)
);
CREATE INDEX gatecast_deployments_content ON gatecast_deployments (content_id);
CREATE INDEX gatecast_deployments_gateway ON gatecast_deployments (gateway_id);

CREATE TABLE gatecast_api_keys (
    id          text PRIMARY KEY,
    artifact_id text NOT NULL REFERENCES gatecast_artifacts (id) ON DELETE CASCADE,
    name        text NOT NULL,
    mask        text NOT NULL,
    sha256      text NOT NULL UNIQUE,
    expires_at  bigint,
    created_at  bigint NOT NULL,
    updated_at  bigint NOT NULL,
    revoked_at  bigint
);
-- A name can be used again once its key is revoked.
CREATE UNIQUE INDEX gatecast_api_keys_name ON gatecast_api_keys (artifact_id, name) WHERE revoked_at IS NULL;

-- Templates that an organization made itself.
CREATE TABLE gatecast_llm_provider_templates (
    organization text NOT NULL,
    handle       text NOT NULL,
    document     text NOT NULL,
    version      bigint NOT NULL,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    PRIMARY KEY (organization, handle)
);

-- What was made on a gateway itself.
CREATE TABLE gatecast_imported_artifacts (
    gateway_id       text NOT NULL REFERENCES gatecast_gateways (id) ON DELETE CASCADE,
    -- The gateway's own id of it.
    local_id         text NOT NULL,
    id               text NOT NULL UNIQUE,
    kind             text NOT NULL,
    handle           text NOT NULL,
    name             text NOT NULL,
    artifact_version text NOT NULL,
    status           text NOT NULL,
    configuration    bytea NOT NULL,
    deployed_at      text NOT NULL,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    PRIMARY KEY (gateway_id, local_id)
);

-- Subscriptions and their plans, as the published events left them.
CREATE TABLE gatecast_subscription_records (
    gateway_id text NOT NULL REFERENCES gatecast_gateways (id) ON DELETE CASCADE,
    kind       text NOT NULL,
    id         text NOT NULL,
    api_id     text NOT NULL,
    body       bytea NOT NULL,
    version    bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (gateway_id, kind, id)
);
