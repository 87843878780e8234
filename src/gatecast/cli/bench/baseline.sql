-- name: create_gateways
CREATE TABLE gatecast_bench_gateways (gateway_id text PRIMARY KEY, version bigint NOT NULL, updated_at timestamptz NOT NULL)

-- name: create_events
CREATE TABLE gatecast_bench_events (
    event_id text PRIMARY KEY, gateway_id text NOT NULL, type text NOT NULL, action text NOT NULL,
    entity_type text NOT NULL, entity_id text NOT NULL, payload text NOT NULL, recorded_at timestamptz NOT NULL)

-- name: create_index
-- Its readers ask for what a gateway got after a point in time.
CREATE INDEX gatecast_bench_events_recorded ON gatecast_bench_events (gateway_id, recorded_at)

-- name: drop_gateways
DROP TABLE IF EXISTS gatecast_bench_gateways

-- name: drop_events
DROP TABLE IF EXISTS gatecast_bench_events

-- name: insert_gateway_if_absent
INSERT INTO gatecast_bench_gateways (gateway_id, version, updated_at) VALUES ($1, 0, now()) ON CONFLICT DO NOTHING

-- name: insert_event
INSERT INTO gatecast_bench_events (event_id, gateway_id, type, action, entity_type, entity_id, payload, recorded_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, now())

-- name: raise_version
UPDATE gatecast_bench_gateways SET version = version + 1, updated_at = now() WHERE gateway_id = $1
