-- What can be checked cheaply of events, for those who write rows by themselves: the library checks more. A trigger, because
-- a table that is there already cannot get a CHECK; rows of earlier releases that break the rules are read all the same.
CREATE TRIGGER gatecast_events_grammar BEFORE INSERT ON gatecast_events
WHEN NOT (new.action IN ('CREATE', 'UPDATE', 'DELETE', 'PROVISION', 'REVOKE')
          AND new.originated_at GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9] [0-9]*+00:00'
          AND new.originated_at >= '0001'
          AND length(new.type) BETWEEN 1 AND 255 AND length(new.entity_type) BETWEEN 1 AND 255
          AND length(new.entity_id) BETWEEN 1 AND 255
          AND new.size BETWEEN 2 AND 1048576)
BEGIN
    SELECT RAISE(ABORT, 'an event breaks a rule of its action, instant, identifiers or size');
END;
