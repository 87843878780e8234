-- A file that a release without prefixes has made: migrations up to 0017 and 1026.
BEGIN TRANSACTION;
CREATE TABLE connections (
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
INSERT INTO "connections" VALUES(1,'8a3f2e96-11a0-4ce1-9343-951ace8ff969','gateway-2','','pod-1','library','local',NULL,'2026-11-26 04:58:34.092746+00:00',0,0,NULL,0);
CREATE TABLE cursors (
    gateway_id    text NOT NULL REFERENCES gateway_streams ON DELETE CASCADE,
    replica       text NOT NULL,
    epoch         text NOT NULL,
    sent          integer NOT NULL,
    confirmed     integer NOT NULL,
    resync_reason text,
    updated_at    text NOT NULL,
    PRIMARY KEY (gateway_id, replica)
) WITHOUT ROWID;
INSERT INTO "cursors" VALUES('gateway-1','','2bac24a7-fbf4-4773-9fcc-002e79e12b1b',2,2,NULL,'2026-11-26 04:58:34.072778+00:00');
INSERT INTO "cursors" VALUES('gateway-2','','2bac24a7-fbf4-4773-9fcc-002e79e12b1b',0,0,NULL,'2026-11-26 04:58:34.092503+00:00');
CREATE TABLE epoch (
    only_row    integer PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    current     text NOT NULL,
    begun_at    text NOT NULL,
    last_change integer NOT NULL DEFAULT 0
, change_token text NOT NULL DEFAULT '');
INSERT INTO "epoch" VALUES(1,'2bac24a7-fbf4-4773-9fcc-002e79e12b1b','2026-11-26 04:58:32.889566+00:00',8,'6b768987-48c8-4f68-be23-310da2c38195');
CREATE TABLE events (
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
    payload       text NOT NULL, changed_seq integer NOT NULL DEFAULT 0,
    PRIMARY KEY (log_id, "offset")
);
INSERT INTO "events" VALUES(1,1,'00000000-0000-0000-0000-000000000001','api.deployed','CREATE','Api','api-0',12,'2026-11-26 04:58:33.004193+00:00','2026-11-26 04:58:33.011759+00:00',NULL,'{"number":0}',4);
INSERT INTO "events" VALUES(1,2,'00000000-0000-0000-0000-000000000002','api.deployed','CREATE','Api','api-1',12,'2026-11-26 04:58:33.025138+00:00','2026-11-26 04:58:33.026489+00:00',NULL,'{"number":1}',5);
INSERT INTO "events" VALUES(1,3,'00000000-0000-0000-0000-000000000003','api.deployed','CREATE','Api','api-2',12,'2026-11-26 04:58:33.037092+00:00','2026-11-26 04:58:33.038347+00:00',NULL,'{"number":2}',6);
INSERT INTO "events" VALUES(2,1,'00000000-0000-0000-0000-000000000009','api.deployed','CREATE','Api','api-1',2,'2026-11-26 04:58:33.042705+00:00','2026-11-26 04:58:33.043922+00:00',NULL,'{}',7);
INSERT INTO "events" VALUES(3,1,'00000000-0000-0000-0000-00000000000a','api.deployed','CREATE','Api','api-1',2,'2026-11-26 04:58:33.051269+00:00','2026-11-26 04:58:33.052292+00:00',NULL,'{}',8);
CREATE TABLE forgotten_logs (
    log_id integer PRIMARY KEY
);
INSERT INTO "forgotten_logs" VALUES(3);
CREATE TABLE gatecast_admin_tokens (
    id           text PRIMARY KEY,
    organization text NOT NULL,
    digest       text NOT NULL UNIQUE,
    created_at   timestamptz NOT NULL
, role text NOT NULL DEFAULT 'admin');
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
CREATE TABLE gatecast_audit (
    id           text PRIMARY KEY,
    organization text NOT NULL,
    -- In milliseconds since 1970, by the pod's clock.
    asked_at     bigint NOT NULL,
    subject      text NOT NULL,
    role         text NOT NULL,
    remote       text NOT NULL,
    -- `api` or `console`.
    door         text NOT NULL,
    -- What was asked for, like `create_gateway`.
    action       text NOT NULL,
    target       text NOT NULL,
    -- The HTTP status that it was answered with; 0: the pod ended before it answered.
    status       integer NOT NULL
);
CREATE TABLE gatecast_content_needs (
    content_id  text NOT NULL REFERENCES gatecast_contents (id) ON DELETE CASCADE,
    provider_id text NOT NULL,
    PRIMARY KEY (content_id, provider_id)
);
CREATE TABLE gatecast_content_routes (
    content_id text NOT NULL REFERENCES gatecast_contents (id) ON DELETE CASCADE,
    -- In the normal form of gatecast.controlplane.documents.routes.
    host       text NOT NULL,
    context    text NOT NULL,
    PRIMARY KEY (content_id, host, context)
);
CREATE TABLE gatecast_content_secrets (
    content_id text NOT NULL REFERENCES gatecast_contents (id) ON DELETE CASCADE,
    handle     text NOT NULL,
    PRIMARY KEY (content_id, handle)
);
CREATE TABLE gatecast_contents (
    id               text PRIMARY KEY,
    artifact_id      text NOT NULL REFERENCES gatecast_artifacts (id) ON DELETE CASCADE,
    name             text NOT NULL,
    artifact_version text NOT NULL,
    document         bytea NOT NULL,
    -- JSON: the handle of the secret at each place of the document that needs one.
    credentials      text NOT NULL,
    content          bytea NOT NULL
, routed bigint NOT NULL DEFAULT 0, openapi_id text);
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
CREATE TABLE gatecast_fleet_samples (
    organization text NOT NULL,
    -- The begin of the interval in which it was taken, in seconds since 1970 by the clock of the database.
    taken_at     bigint NOT NULL,
    -- When, exactly.
    measured_at  double precision NOT NULL,
    -- Events in all logs and the confirmed ones of them, since the logs began; -1: a pod measures, or ended meanwhile.
    recorded     bigint NOT NULL,
    confirmed    bigint NOT NULL,
    -- The age of the oldest event that some gateway has not confirmed, in seconds.
    lag          double precision NOT NULL,
    -- From record to confirmation, in seconds; -1: nothing was confirmed.
    median       double precision NOT NULL,
    slowest      double precision NOT NULL,
    PRIMARY KEY (organization, taken_at)
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
    updated_at        timestamptz NOT NULL, unlisted text NOT NULL DEFAULT '', manifest_fault text NOT NULL DEFAULT '',
    UNIQUE (organization, name)
);
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
CREATE TABLE gatecast_imported_routes (
    gateway_id text NOT NULL,
    local_id   text NOT NULL,
    host       text NOT NULL,
    context    text NOT NULL,
    PRIMARY KEY (gateway_id, local_id, host, context),
    FOREIGN KEY (gateway_id, local_id) REFERENCES gatecast_imported_artifacts (gateway_id, local_id) ON DELETE CASCADE
);
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
CREATE TABLE gatecast_llm_provider_templates (
    organization text NOT NULL,
    handle       text NOT NULL,
    document     text NOT NULL,
    version      bigint NOT NULL,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    PRIMARY KEY (organization, handle)
);
CREATE TABLE gatecast_log_outs (
    organization text NOT NULL,
    subject      text NOT NULL,
    generation   bigint NOT NULL,
    PRIMARY KEY (organization, subject)
);
CREATE TABLE gatecast_openapi (
    id          text PRIMARY KEY,
    artifact_id text NOT NULL REFERENCES gatecast_artifacts (id) ON DELETE CASCADE,
    document    bytea NOT NULL
);
CREATE TABLE gatecast_organizations (
    id text PRIMARY KEY
);
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
    held          text NOT NULL, doubt text NOT NULL DEFAULT '', tries bigint NOT NULL DEFAULT 0, keys_through bigint NOT NULL DEFAULT -1, fetched bigint NOT NULL DEFAULT -1, named bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (artifact_id, gateway_id)
);
CREATE TABLE gatecast_secrets (
    handle      text PRIMARY KEY,
    artifact_id text NOT NULL REFERENCES gatecast_artifacts (id) ON DELETE CASCADE,
    value       bytea NOT NULL,
    created_at  timestamptz NOT NULL
);
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
, began_anew boolean NOT NULL DEFAULT false, delivered bigint NOT NULL DEFAULT 0);
CREATE TABLE gatecast_unknown_apis (
    gateway_id  text NOT NULL REFERENCES gatecast_gateways (id) ON DELETE CASCADE,
    artifact_id text NOT NULL, kind text NOT NULL DEFAULT 'RestApi',
    PRIMARY KEY (gateway_id, artifact_id)
);
CREATE TABLE gateway_streams (
    gateway_id      text PRIMARY KEY,
    -- A gateway that is registered again has another log: what is left of the first one is none of its business.
    log_id          integer NOT NULL,
    head            integer NOT NULL DEFAULT 0,
    trimmed_through integer NOT NULL DEFAULT 0,
    registered_in   text NOT NULL,
    changed_seq     integer NOT NULL
, last_event_id text, trimmed_seq integer NOT NULL DEFAULT 0) WITHOUT ROWID;
INSERT INTO "gateway_streams" VALUES('gateway-1',1,3,0,'2bac24a7-fbf4-4773-9fcc-002e79e12b1b',6,'00000000-0000-0000-0000-000000000003',0);
INSERT INTO "gateway_streams" VALUES('gateway-2',2,1,0,'2bac24a7-fbf4-4773-9fcc-002e79e12b1b',7,'00000000-0000-0000-0000-000000000009',0);
CREATE TABLE "outcomes" (
    log_id      integer NOT NULL,
    "offset"    integer NOT NULL,
    replica     text NOT NULL,
    kind        text NOT NULL CHECK (kind IN (
                    'applied', 'rejected', 'parked', 'held', 'retried', 'skipped', 'released', 'undeliverable', 'omitted')),
    reason      text NOT NULL,
    recorded_at text NOT NULL,
    PRIMARY KEY (log_id, "offset", replica)
) WITHOUT ROWID;
INSERT INTO "outcomes" VALUES(1,1,'','applied','','2026-11-26 04:58:34.085512+00:00');
INSERT INTO "outcomes" VALUES(1,3,'','rejected','no','2026-11-26 04:58:34.085646+00:00');
CREATE TABLE passages (
    number            integer PRIMARY KEY,
    log_id            integer NOT NULL,
    -- The last event that the row tells of.
    through           integer NOT NULL,
    replica           text NOT NULL,
    connection_id     text NOT NULL,
    pod_id            text NOT NULL,
    picked_up_after   integer NOT NULL,
    picked_up_through integer NOT NULL,
    picked_up_first   real NOT NULL,
    picked_up_last    real NOT NULL,
    sent_after        integer NOT NULL,
    sent_through      integer NOT NULL,
    sent_first        real NOT NULL,
    sent_last         real NOT NULL,
    confirmed_after   integer NOT NULL,
    confirmed_through integer NOT NULL,
    confirmed_first   real NOT NULL,
    confirmed_last    real NOT NULL
);
INSERT INTO "passages" VALUES(1,1,3,'','3b0e541b-89a0-42ae-9872-3c4d97e9b08a','pod-1',0,3,1.7956691130668423176e+09,1.7956691130668423176e+09,0,2,1.7956691130690135956e+09,1.79566911306908869741e+09,0,2,1.79566911306907272334e+09,1.79566911306910252568e+09);
CREATE TABLE pods (
    pod_id      text PRIMARY KEY,
    lease_until text NOT NULL,
    -- Of this row: a pod that was forgotten and comes back has another one.
    life        text NOT NULL
, version text NOT NULL DEFAULT '', started_at text) WITHOUT ROWID;
INSERT INTO "pods" VALUES('pod-1','2026-11-26 04:58:38.965307+00:00','9a37e298-0292-41cf-9397-f369c6b70b2a','0.1.0','2026-11-26 04:58:33.005282+00:00');
CREATE TABLE schema_migrations (
    number     integer PRIMARY KEY,
    name       text NOT NULL,
    applied_at text NOT NULL
);
INSERT INTO "schema_migrations" VALUES(1,'event_log','2026-11-26 04:58:32.890725+00:00');
INSERT INTO "schema_migrations" VALUES(3,'lineage','2026-11-26 04:58:32.891327+00:00');
INSERT INTO "schema_migrations" VALUES(4,'undeliverable','2026-11-26 04:58:32.893627+00:00');
INSERT INTO "schema_migrations" VALUES(5,'grammar','2026-11-26 04:58:32.893853+00:00');
INSERT INTO "schema_migrations" VALUES(6,'functions_without_jit','2026-11-26 04:58:32.893909+00:00');
INSERT INTO "schema_migrations" VALUES(9,'pods','2026-11-26 04:58:32.894515+00:00');
INSERT INTO "schema_migrations" VALUES(10,'decisions','2026-11-26 04:58:32.894570+00:00');
INSERT INTO "schema_migrations" VALUES(11,'passages','2026-11-26 04:58:32.894768+00:00');
INSERT INTO "schema_migrations" VALUES(12,'changes_of_events','2026-11-26 04:58:32.898750+00:00');
INSERT INTO "schema_migrations" VALUES(17,'publish_with_a_trace','2026-11-26 04:58:32.898879+00:00');
INSERT INTO "schema_migrations" VALUES(1001,'gateways','2026-11-26 04:58:32.899412+00:00');
INSERT INTO "schema_migrations" VALUES(1002,'artifacts','2026-11-26 04:58:32.901274+00:00');
INSERT INTO "schema_migrations" VALUES(1003,'observed','2026-11-26 04:58:32.904725+00:00');
INSERT INTO "schema_migrations" VALUES(1004,'kept_events','2026-11-26 04:58:32.905073+00:00');
INSERT INTO "schema_migrations" VALUES(1005,'routes','2026-11-26 04:58:32.906119+00:00');
INSERT INTO "schema_migrations" VALUES(1006,'openapi','2026-11-26 04:58:32.906934+00:00');
INSERT INTO "schema_migrations" VALUES(1008,'roles_and_audit','2026-11-26 04:58:32.912026+00:00');
INSERT INTO "schema_migrations" VALUES(1015,'manifest_faults','2026-11-26 04:58:32.912738+00:00');
INSERT INTO "schema_migrations" VALUES(1018,'deployment_states','2026-11-26 04:58:32.912946+00:00');
INSERT INTO "schema_migrations" VALUES(1019,'log_outs','2026-11-26 04:58:32.913107+00:00');
INSERT INTO "schema_migrations" VALUES(1020,'unknown_kinds','2026-11-26 04:58:32.913843+00:00');
INSERT INTO "schema_migrations" VALUES(1021,'newest_revisions','2026-11-26 04:58:32.913958+00:00');
INSERT INTO "schema_migrations" VALUES(1022,'new_databases','2026-11-26 04:58:32.922743+00:00');
INSERT INTO "schema_migrations" VALUES(1025,'deployment_changes','2026-11-26 04:58:32.923088+00:00');
INSERT INTO "schema_migrations" VALUES(1026,'fleet_samples','2026-11-26 04:58:32.923350+00:00');
CREATE INDEX gateway_streams_changed ON gateway_streams (changed_seq);
CREATE UNIQUE INDEX events_event_id ON events (log_id, event_id);
CREATE INDEX connections_gateway ON connections (gateway_id, replica);
CREATE INDEX connections_pod ON connections (pod_id, dismissal);
CREATE INDEX connections_holding ON connections (pod_id) WHERE NOT released;
CREATE INDEX connections_token ON connections (token_id) WHERE token_id IS NOT NULL;
CREATE INDEX outcomes_parking ON outcomes (log_id, replica, kind, "offset")
    WHERE kind IN ('parked', 'held', 'retried', 'skipped', 'released', 'rejected', 'undeliverable', 'omitted');
CREATE TRIGGER events_grammar BEFORE INSERT ON events
WHEN NOT (new.action IN ('CREATE', 'UPDATE', 'DELETE', 'PROVISION', 'REVOKE')
          AND new.originated_at GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9] [0-9]*+00:00'
          AND new.originated_at >= '0001'
          AND length(new.type) BETWEEN 1 AND 255 AND length(new.entity_type) BETWEEN 1 AND 255
          AND length(new.entity_id) BETWEEN 1 AND 255
          AND new.size BETWEEN 2 AND 1048576)
BEGIN
    SELECT RAISE(ABORT, 'an event breaks a rule of its action, instant, identifiers or size');
END;
CREATE INDEX passages_log ON passages (log_id, through);
CREATE TRIGGER events_changed_seq AFTER INSERT ON events WHEN new.changed_seq = 0
BEGIN
    UPDATE events SET changed_seq = (SELECT last_change FROM epoch) WHERE rowid = new.rowid;
END;
CREATE INDEX gatecast_gateway_tokens_gateway ON gatecast_gateway_tokens (gateway_id);
CREATE INDEX gatecast_secrets_artifact ON gatecast_secrets (artifact_id);
CREATE INDEX gatecast_contents_artifact ON gatecast_contents (artifact_id);
CREATE INDEX gatecast_content_needs_provider ON gatecast_content_needs (provider_id);
CREATE INDEX gatecast_placements_gateway ON gatecast_placements (gateway_id);
CREATE INDEX gatecast_deployments_content ON gatecast_deployments (content_id);
CREATE INDEX gatecast_deployments_gateway ON gatecast_deployments (gateway_id);
CREATE UNIQUE INDEX gatecast_api_keys_name ON gatecast_api_keys (artifact_id, name) WHERE revoked_at IS NULL;
CREATE INDEX gatecast_contents_unrouted ON gatecast_contents (id) WHERE routed = 0;
CREATE INDEX gatecast_content_routes_place ON gatecast_content_routes (context, host);
CREATE INDEX gatecast_contents_name ON gatecast_contents (name, artifact_version);
CREATE INDEX gatecast_openapi_artifact ON gatecast_openapi (artifact_id);
CREATE INDEX gatecast_audit_page ON gatecast_audit (organization, asked_at, id);
CREATE INDEX gatecast_deployments_states ON gatecast_deployments (artifact_id, state, performed_at)
    WHERE state <> 'SUPERSEDED';
CREATE INDEX gatecast_deployments_updated ON gatecast_deployments (updated_at) WHERE state <> 'SUPERSEDED';
COMMIT;
