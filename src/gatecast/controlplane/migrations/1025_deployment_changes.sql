-- Who follows deployments asks for those that changed lately. Understood by PostgreSQL and SQLite alike.
CREATE INDEX gatecast_deployments_updated ON gatecast_deployments (updated_at) WHERE state <> 'SUPERSEDED';
