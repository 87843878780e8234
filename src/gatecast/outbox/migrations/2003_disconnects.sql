-- What a transaction disconnects: connections of a token that it revokes, or of a gateway that it deletes. The log, which
-- cannot take part in the transaction, may be away, and forwarding may be between two processes.
-- Understood by PostgreSQL and SQLite alike.

-- One row. Its lock gives out the numbers in commit order, so that nobody who has seen a number misses a lower one.
CREATE TABLE gatecast_outbox_disconnected (
    only_row integer PRIMARY KEY CHECK (only_row = 1),
    number   bigint NOT NULL
);
INSERT INTO gatecast_outbox_disconnected (only_row, number) VALUES (1, 0);

CREATE TABLE gatecast_outbox_disconnects (
    number     bigint PRIMARY KEY,
    -- One of the two; the other one is empty.
    token_id   text NOT NULL,
    gateway_id text NOT NULL
);
