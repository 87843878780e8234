-- The identity of the history, and whether it still lives where it was recorded.

-- Where this database is: its cluster and itself, and the timeline that it writes; `?` for what a managed service keeps to
-- itself. The timeline of the last checkpoint would lag until the checkpoint that follows a promotion.
CREATE OR REPLACE FUNCTION gatecast.lineage_v1(OUT cluster text, OUT timeline text) LANGUAGE plpgsql STABLE SET jit = off AS $$
DECLARE
    system text := '?';
BEGIN
    BEGIN
        SELECT c.system_identifier::text INTO system FROM pg_control_system() c;
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
    timeline := '?';
    IF pg_is_in_recovery() THEN
        -- No record names a standby: it serves no pod before it is promoted.
        timeline := 'standby';
    ELSE
        BEGIN
            timeline := left(pg_walfile_name(pg_current_wal_lsn()), 8);
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
    END IF;
    -- With the database's own id, because CREATE DATABASE ... TEMPLATE copies rows as they are.
    cluster := system || '/' || (SELECT d.oid FROM pg_database d WHERE d.datname = current_database());
END $$;

-- The history as this statement's snapshot sees it. `server` differs after a failover, a restart and a restore; `settled`
-- says that everything is recorded as it is; `servable` says that gateways may rely on it already.
CREATE OR REPLACE FUNCTION gatecast.history_v1(
    OUT epoch uuid, OUT server text, OUT synchronous boolean, OUT settled boolean, OUT servable boolean
) LANGUAGE plpgsql STABLE SET jit = off AS $$
DECLARE
    here record;
    known record;
BEGIN
    SELECT * INTO here FROM gatecast.lineage_v1();
    SELECT e.*, e.xmin AS writer INTO known FROM gatecast.epoch e;
    epoch := known.current;
    server := concat_ws('/', here.cluster, here.timeline, extract(epoch FROM pg_postmaster_start_time()), known.writer);
    synchronous := current_setting('synchronous_standby_names') <> '';
    servable := known.writer = known.written_by::xid
        AND coalesce(known.cluster = here.cluster AND known.timeline = here.timeline, true);
    settled := servable AND known.cluster IS NOT NULL AND known.synchronous = synchronous;
END $$;

-- Whether this server received the stream of another one until it was promoted. One that was recovered from an archive, or
-- up to a point, begins a timeline as well, and lacks what came after that, whatever commits had waited for.
CREATE OR REPLACE FUNCTION gatecast.was_standby_v1() RETURNS boolean LANGUAGE plpgsql STABLE SET jit = off AS $$
BEGIN
    -- How far the stream had come is known until the next restart.
    RETURN pg_last_wal_receive_lsn() IS NOT NULL AND concat(
        current_setting('recovery_target'), current_setting('recovery_target_lsn'), current_setting('recovery_target_name'),
        current_setting('recovery_target_time'), current_setting('recovery_target_xid')) = '';
EXCEPTION WHEN OTHERS THEN
    RETURN false;
END $$;

-- Decide whether the history continues where it is found now, record that, and return the epoch in force. One pod
-- decides; the others wait for the row, and then find the decision. p_verdict: 'keep' continues, and 'end' does not;
-- 'doubt' continues only where it was recorded, and 'record' also if the record proves that nothing was lost: on the
-- next timeline of the same cluster, if commits waited for the standby that this server was. That proves nothing for
-- tables loaded from a dump, nor two timelines later: whether commits waited on the server in between is not recorded.
-- Each decision joins the lineage, and is itself the epoch if it begins one: a database that lacks a decision lacks
-- everything committed after it.
CREATE OR REPLACE FUNCTION gatecast.settle_history_v1(p_expected uuid, p_verdict text) RETURNS uuid LANGUAGE plpgsql SET jit = off AS $$
DECLARE
    here record;
    known record;
    same_place boolean;
    next_place boolean;
    goes_on boolean;
    decision uuid;
BEGIN
    PERFORM FROM gatecast.epoch FOR UPDATE;
    SELECT * INTO here FROM gatecast.lineage_v1();
    SELECT e.*, e.xmin = e.written_by::xid AS is_original INTO known FROM gatecast.epoch e;
    IF known.current <> p_expected THEN
        RETURN known.current;
    END IF;
    same_place := known.is_original AND coalesce(
        known.cluster = here.cluster AND (known.timeline = here.timeline OR '?' IN (known.timeline, here.timeline)), true);
    next_place := CASE WHEN here.timeline ~ '^[0-9A-F]{8}$' AND known.timeline ~ '^[0-9A-F]{8}$'
        THEN known.cluster = here.cluster AND here.timeline = upper(lpad(to_hex(('x' || known.timeline)::bit(32)::bigint + 1), 8, '0'))
        ELSE false END;
    goes_on := CASE p_verdict
        WHEN 'keep' THEN true
        WHEN 'end' THEN false
        WHEN 'doubt' THEN same_place
        ELSE same_place OR (known.is_original AND next_place AND known.synchronous AND gatecast.was_standby_v1()) END;
    IF goes_on AND (SELECT h.settled FROM gatecast.history_v1() h) THEN
        -- Another pod was first. A row that is rewritten looks like one that was reloaded.
        RETURN known.current;
    END IF;
    IF current_setting('synchronous_commit') IN ('off', 'local') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    decision := gen_random_uuid();
    UPDATE gatecast.epoch e
    SET cluster = here.cluster, timeline = here.timeline, written_by = pg_current_xact_id(),
        synchronous = current_setting('synchronous_standby_names') <> '',
        current = CASE WHEN goes_on THEN e.current ELSE decision END,
        lineage = (CASE e.lineage WHEN '{}' THEN ARRAY[e.current] ELSE e.lineage[cardinality(e.lineage) - 98:] END) || decision,
        begun_at = CASE WHEN goes_on THEN e.begun_at ELSE now() END
    RETURNING e.current INTO known.current;
    IF NOT goes_on THEN
        PERFORM gatecast.forget_connections_v1();
    END IF;
    RETURN known.current;
END $$;

-- Which of these events, each remembered by its place, this history lacks there. An event that retention removed
-- contradicts nothing, nor does one of a gateway that was deleted or registered again: a later log has a higher number.
-- Without a number, the log is the one that the gateway has.
CREATE OR REPLACE FUNCTION gatecast.contradicted_v1(
    p_gateway_ids text[], p_log_ids bigint[], p_offsets bigint[], p_event_ids uuid[]
) RETURNS SETOF text LANGUAGE sql STABLE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
    SELECT s.gateway_id
    FROM unnest(p_gateway_ids, p_log_ids, p_offsets, p_event_ids) AS r(gateway_id, log_id, "offset", event_id)
         JOIN gatecast.gateway_streams s ON s.gateway_id = r.gateway_id
         LEFT JOIN gatecast.events e ON e.log_id = s.log_id AND e."offset" = r."offset"
    WHERE s.log_id < r.log_id
       OR s.log_id = coalesce(r.log_id, s.log_id) AND (s.head < r."offset" OR r.event_id <> coalesce(
              e.event_id, CASE WHEN s.head = r."offset" THEN s.last_event_id END, r.event_id))
$$;
