-- How often a person of the OIDC issuer has logged out everywhere: sessions that began before do not count any more.
-- Understood by PostgreSQL and SQLite alike.
CREATE TABLE gatecast_log_outs (
    organization text NOT NULL,
    subject      text NOT NULL,
    generation   bigint NOT NULL,
    PRIMARY KEY (organization, subject)
);
