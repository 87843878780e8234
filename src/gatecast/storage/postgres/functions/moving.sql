-- A log that is moved away: nobody changes it any more.

-- The trigger of tables that are blocked or closed: its arguments are the target, the run that has blocked them, and what
-- everybody is told.
CREATE OR REPLACE FUNCTION gatecast.refuse_moved_v1() RETURNS trigger LANGUAGE plpgsql SET jit = off AS $$
BEGIN
    RAISE EXCEPTION USING MESSAGE = TG_ARGV[2], ERRCODE = 'cannot_connect_now';
END $$;

-- Return unless the log is read elsewhere: a disconnect that is asked for here reaches no connection.
CREATE OR REPLACE FUNCTION gatecast.check_not_closed_v1() RETURNS void LANGUAGE plpgsql STABLE SET jit = off AS $$
DECLARE
    told text := (SELECT convert_from(split_part(encode(t.tgargs, 'escape'), '\000', 3)::bytea, 'UTF8') FROM pg_trigger t
                  WHERE t.tgrelid = 'gatecast.pods'::regclass AND t.tgname = 'gatecast_closed');
BEGIN
    IF told IS NOT NULL THEN
        RAISE EXCEPTION USING MESSAGE = told, ERRCODE = 'cannot_connect_now';
    END IF;
END $$;
