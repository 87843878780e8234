-- What operators want to know of a pod: the release that it runs, and since when.
ALTER TABLE gatecast.pods ADD COLUMN version text NOT NULL DEFAULT '';
ALTER TABLE gatecast.pods ADD COLUMN started_at timestamptz;
