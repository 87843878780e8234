-- Which log the outbox forwards into; empty until a process with that log has opened it. And where that was found last,
-- without user and password.
ALTER TABLE gatecast_outbox_forwarder ADD COLUMN log text NOT NULL DEFAULT '';
ALTER TABLE gatecast_outbox_forwarder ADD COLUMN log_place text NOT NULL DEFAULT '';
