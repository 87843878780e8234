-- Of which kind what a gateway named is, and nobody here knows: its acknowledgements name every kind.
ALTER TABLE gatecast_unknown_apis ADD COLUMN kind text NOT NULL DEFAULT 'RestApi';
