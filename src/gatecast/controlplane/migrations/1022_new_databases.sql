-- Whether a gateway has shown that its database is a new one, and nothing was done about that yet.
ALTER TABLE gatecast_synchronizations ADD COLUMN began_anew boolean NOT NULL DEFAULT false;
-- The last synchronization in which a gateway without data has read everything.
ALTER TABLE gatecast_synchronizations ADD COLUMN delivered bigint NOT NULL DEFAULT 0;
-- The last synchronization in which a gateway named what it has of an API: it asks for the subscriptions of each.
ALTER TABLE gatecast_placements ADD COLUMN named bigint NOT NULL DEFAULT 0;
