-- Which events passed which hop, and when: one row for each time that a connection's progress was stored. Instants are
-- seconds since 1970 by the database's clock; a hop that no event passed has zeros.
CREATE TABLE gatecast_passages (
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
CREATE INDEX gatecast_passages_log ON gatecast_passages (log_id, through);
