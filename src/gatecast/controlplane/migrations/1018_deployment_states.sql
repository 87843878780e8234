-- How many gateways are in which state of an artifact, for lists. Understood by PostgreSQL and SQLite alike.
-- Whatever is not superseded is what its gateway was told last.
CREATE INDEX gatecast_deployments_states ON gatecast_deployments (artifact_id, state, performed_at)
    WHERE state <> 'SUPERSEDED';
