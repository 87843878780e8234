-- Of an API key: the version that one gateway was told anew, without any other change; 0: none was.
ALTER TABLE gatecast_api_keys ADD COLUMN renewed_at bigint NOT NULL DEFAULT 0;
-- The version with which gateways were told that its time is over; 0: they were not.
ALTER TABLE gatecast_api_keys ADD COLUMN ended_at bigint NOT NULL DEFAULT 0;
-- The keys of which gateways are to be told that their time is over, soon or later.
CREATE INDEX gatecast_api_keys_expiring ON gatecast_api_keys (expires_at)
    WHERE revoked_at IS NULL AND expires_at IS NOT NULL AND ended_at < updated_at;
