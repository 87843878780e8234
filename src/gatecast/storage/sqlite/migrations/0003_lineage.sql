-- Which change was the last one, so that it is noticed when an older copy of the file takes its place: the number alone
-- may be reached again.

ALTER TABLE gatecast_epoch ADD COLUMN change_token text NOT NULL DEFAULT '';

-- Of the event at the head: retention may remove it. Null: not known.
ALTER TABLE gatecast_gateway_streams ADD COLUMN last_event_id text;
