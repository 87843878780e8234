-- What operators want to know of a pod: the release that it runs, and since when.
ALTER TABLE gatecast_pods ADD COLUMN version text NOT NULL DEFAULT '';
ALTER TABLE gatecast_pods ADD COLUMN started_at text;
