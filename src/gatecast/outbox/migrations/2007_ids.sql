-- Since when the outbox knows every event id that was published, in seconds since 1970; 0: it always did. Entries that an
-- earlier release forwarded are gone, and so are the ids of what was published without this outbox; NULL: nobody has
-- looked yet. Understood by PostgreSQL and SQLite alike.
ALTER TABLE gatecast_outbox_forwarder ADD COLUMN ids_since double precision;
