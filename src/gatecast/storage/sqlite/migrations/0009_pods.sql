-- What operators want to know of a pod: the release that it runs, and since when.
ALTER TABLE pods ADD COLUMN version text NOT NULL DEFAULT '';
ALTER TABLE pods ADD COLUMN started_at text;
