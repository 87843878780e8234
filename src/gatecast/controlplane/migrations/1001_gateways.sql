-- Gateways, their tokens, and admin tokens. Understood by PostgreSQL and SQLite alike.

-- Locked by whoever gives a gateway of the organization a name, so that no name is given twice.
CREATE TABLE gatecast_organizations (
    id text PRIMARY KEY
);

CREATE TABLE gatecast_gateways (
    id                text PRIMARY KEY,
    organization      text NOT NULL,
    name              text NOT NULL,
    display_name      text NOT NULL,
    description       text NOT NULL,
    vhost             text NOT NULL,
    type              text NOT NULL,
    connection_policy text NOT NULL,
    properties        text NOT NULL,
    manifest          text,
    -- How many events of its log the control plane can publish again; a longer log holds those of others as well.
    own_events        bigint NOT NULL DEFAULT 0,
    -- Why events of others were lost (retention, epoch, ahead); empty: they were not, or somebody has made it good.
    unrestored        text NOT NULL DEFAULT '',
    version           bigint NOT NULL,
    created_at        timestamptz NOT NULL,
    updated_at        timestamptz NOT NULL,
    UNIQUE (organization, name)
);

CREATE TABLE gatecast_gateway_tokens (
    id           text PRIMARY KEY,
    gateway_id   text NOT NULL REFERENCES gatecast_gateways (id) ON DELETE CASCADE,
    prefix       text NOT NULL,
    digest       text NOT NULL UNIQUE,
    created_at   timestamptz NOT NULL,
    last_used_at timestamptz,
    revoked_at   timestamptz
);
CREATE INDEX gatecast_gateway_tokens_gateway ON gatecast_gateway_tokens (gateway_id);

CREATE TABLE gatecast_admin_tokens (
    id           text PRIMARY KEY,
    organization text NOT NULL,
    digest       text NOT NULL UNIQUE,
    created_at   timestamptz NOT NULL
);
