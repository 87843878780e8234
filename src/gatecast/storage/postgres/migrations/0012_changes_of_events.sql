-- The transaction that recorded an event, so that a reader who knows a place in the order of transactions finds its place in
-- each log. Without an index: a log is read backwards from its end. What is there already counts as recorded now.
ALTER TABLE gatecast.events ADD COLUMN changed_xid xid8 NOT NULL DEFAULT pg_current_xact_id();

-- The last transaction of those that recorded what retention has removed.
ALTER TABLE gatecast.gateway_streams ADD COLUMN trimmed_xid xid8 NOT NULL DEFAULT pg_current_xact_id();
ALTER TABLE gatecast.gateway_streams ALTER COLUMN trimmed_xid SET DEFAULT '0';
