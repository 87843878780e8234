-- Artifacts that were deleted lately, for who follows them. Understood by PostgreSQL and SQLite alike.
CREATE TABLE gatecast_deleted_artifacts (
    artifact_id  text PRIMARY KEY,
    organization text NOT NULL,
    kind         text NOT NULL,
    handle       text NOT NULL,
    name         text NOT NULL,
    deleted_at   timestamptz NOT NULL
);
CREATE INDEX gatecast_deleted_artifacts_time ON gatecast_deleted_artifacts (organization, deleted_at);
