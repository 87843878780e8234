-- The last term of which is known what it did to the ids. If it is not the present one, an earlier release forwarded meanwhile,
-- and kept no ids. Understood by PostgreSQL and SQLite alike.
ALTER TABLE gatecast_outbox_forwarder ADD COLUMN ids_term text NOT NULL DEFAULT '';
