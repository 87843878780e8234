-- How the delivery to all gateways of an organization went lately, for charts. Understood by PostgreSQL and SQLite alike.
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
