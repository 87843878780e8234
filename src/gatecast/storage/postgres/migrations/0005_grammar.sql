-- What can be checked cheaply of events, for those who write rows by themselves: `gatecast.publish` checks more. NOT VALID,
-- because rows of earlier releases may break these rules; they are read all the same.
ALTER TABLE gatecast.events
    ADD CONSTRAINT events_action
        CHECK (action IN ('CREATE', 'UPDATE', 'DELETE', 'PROVISION', 'REVOKE')) NOT VALID,
    ADD CONSTRAINT events_originated_at
        CHECK (originated_at >= '0001-01-01 00:00:00+00' AND originated_at < '10000-01-01 00:00:00+00') NOT VALID,
    ADD CONSTRAINT events_identifiers
        CHECK (char_length(type) BETWEEN 1 AND 255 AND char_length(entity_type) BETWEEN 1 AND 255
               AND char_length(entity_id) BETWEEN 1 AND 255) NOT VALID,
    ADD CONSTRAINT events_size
        CHECK (size BETWEEN 2 AND 1048576) NOT VALID;
