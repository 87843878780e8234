-- Descriptions of APIs, for people: they may be large, so what gateways need is read without them.
-- Understood by PostgreSQL and SQLite alike.

-- Never changed; contents share it for as long as it stays the same.
CREATE TABLE gatecast_openapi (
    id          text PRIMARY KEY,
    artifact_id text NOT NULL REFERENCES gatecast_artifacts (id) ON DELETE CASCADE,
    document    bytea NOT NULL
);
CREATE INDEX gatecast_openapi_artifact ON gatecast_openapi (artifact_id);

-- Null: there is none, or an older release stored it inside the document.
ALTER TABLE gatecast_contents ADD COLUMN openapi_id text;
