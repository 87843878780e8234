-- What admin tokens may do, and who did what. Understood by PostgreSQL and SQLite alike.

ALTER TABLE gatecast_admin_tokens ADD COLUMN role text NOT NULL DEFAULT 'admin';

-- One row for each change that somebody asked for, written before it is tried.
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
CREATE INDEX gatecast_audit_page ON gatecast_audit (organization, asked_at, id);
