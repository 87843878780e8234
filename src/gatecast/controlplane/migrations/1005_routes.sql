-- Where artifacts are served, so that no two are served at one place of one gateway. Understood by PostgreSQL and SQLite.

-- 1 once the routes of a content are stored beside it. An older release stores contents without them: a pod that decides
-- about routes reads the documents of those first.
ALTER TABLE gatecast_contents ADD COLUMN routed bigint NOT NULL DEFAULT 0;
CREATE INDEX gatecast_contents_unrouted ON gatecast_contents (id) WHERE routed = 0;

CREATE TABLE gatecast_content_routes (
    content_id text NOT NULL REFERENCES gatecast_contents (id) ON DELETE CASCADE,
    -- In the normal form of gatecast.controlplane.documents.routes.
    host       text NOT NULL,
    context    text NOT NULL,
    PRIMARY KEY (content_id, host, context)
);
CREATE INDEX gatecast_content_routes_place ON gatecast_content_routes (context, host);

-- Who has a name is asked of many gateways at once.
CREATE INDEX gatecast_contents_name ON gatecast_contents (name, artifact_version);

-- The same for what was made on a gateway itself; known once the gateway has announced it to a pod of this release.
CREATE TABLE gatecast_imported_routes (
    gateway_id text NOT NULL,
    local_id   text NOT NULL,
    host       text NOT NULL,
    context    text NOT NULL,
    PRIMARY KEY (gateway_id, local_id, host, context),
    FOREIGN KEY (gateway_id, local_id) REFERENCES gatecast_imported_artifacts (gateway_id, local_id) ON DELETE CASCADE
);
