-- Which events passed which hop, and when: one row for each time that a connection's progress was stored. Instants are
-- seconds since 1970 by the database's clock; a hop that no event passed has zeros.
CREATE TABLE gatecast.passages (
    log_id            bigint NOT NULL,
    -- The last event that the row tells of.
    through           bigint NOT NULL,
    number            bigint GENERATED ALWAYS AS IDENTITY,
    replica           text NOT NULL,
    connection_id     text COLLATE "C" NOT NULL,
    pod_id            text NOT NULL,
    picked_up_after   bigint NOT NULL,
    picked_up_through bigint NOT NULL,
    picked_up_first   double precision NOT NULL,
    picked_up_last    double precision NOT NULL,
    sent_after        bigint NOT NULL,
    sent_through      bigint NOT NULL,
    sent_first        double precision NOT NULL,
    sent_last         double precision NOT NULL,
    confirmed_after   bigint NOT NULL,
    confirmed_through bigint NOT NULL,
    confirmed_first   double precision NOT NULL,
    confirmed_last    double precision NOT NULL,
    PRIMARY KEY (log_id, through, number)
);
