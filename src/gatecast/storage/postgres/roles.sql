-- Roles with the least rights that Gatecast needs. Run it in the database that Gatecast uses, as its owner with the right to
-- create roles, or as a superuser; it may be repeated:
--
--     gatecast roles | psql postgresql://…
--
-- gatecast_owner      owns the tables: `gatecast migrate` connects as this one.
-- gatecast_pod        reads and writes them: `gatecast serve` connects as this one, with GATECAST_MIGRATE=never.
-- gatecast_publisher  calls gatecast.publish and gatecast.register_gateway: GRANT gatecast_publisher TO the roles of your
--                     applications. `hub.publish(…, transaction=…)` and `publish_sync` need the same rights.
--
-- Give the first two a password, or another way to log in. Then run `gatecast migrate`, and this script once more: rights on
-- single tables can only be given when they exist.

DO $$
DECLARE
    owned name;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'gatecast_owner') THEN
        CREATE ROLE gatecast_owner LOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'gatecast_pod') THEN
        CREATE ROLE gatecast_pod LOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'gatecast_publisher') THEN
        CREATE ROLE gatecast_publisher NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'gatecast') THEN
        CREATE SCHEMA gatecast AUTHORIZATION gatecast_owner;
    END IF;
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO gatecast_owner, gatecast_pod, gatecast_publisher', current_database());
    -- Everything is in one schema, and nothing in `public`.
    FOREACH owned IN ARRAY '{gatecast_owner,gatecast_pod}'::name[] LOOP
        EXECUTE format('ALTER ROLE %I IN DATABASE %I SET search_path = gatecast', owned, current_database());
    END LOOP;
    GRANT USAGE ON SCHEMA gatecast TO gatecast_pod, gatecast_publisher;
    -- Present objects, and future ones of the owner.
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA gatecast TO gatecast_pod;
    GRANT USAGE ON ALL SEQUENCES IN SCHEMA gatecast TO gatecast_pod;
    ALTER DEFAULT PRIVILEGES FOR ROLE gatecast_owner IN SCHEMA gatecast
        GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO gatecast_pod;
    ALTER DEFAULT PRIVILEGES FOR ROLE gatecast_owner IN SCHEMA gatecast GRANT USAGE ON SEQUENCES TO gatecast_pod;
    IF to_regclass('gatecast.events') IS NOT NULL THEN
        GRANT SELECT, INSERT ON gatecast.events TO gatecast_publisher;
        GRANT SELECT, INSERT, UPDATE ON gatecast.gateway_streams TO gatecast_publisher;
        GRANT SELECT ON gatecast.epoch TO gatecast_publisher;
    END IF;
END $$;
