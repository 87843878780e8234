-- The rules of gatecast.events.grammar and gatecast.events.json_values again, for events published in SQL. A contract
-- test compares the two, character by character.
--
-- E'' throughout: the meaning of a backslash in '' depends on a setting of the caller.

-- An identifier without surrounding blanks.
CREATE OR REPLACE FUNCTION gatecast.clean_identifier_v1(p_field text, p_value text) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET jit = off AS $$
DECLARE
    blanks constant text := E'\\u0009-\\u000D\\u001C-\\u0020\\u0085\\u00A0\\u1680\\u2000-\\u200A\\u2028-\\u2029\\u202F'
        '\\u205F\\u3000';
    unprintable constant text := E'\\u0001-\\u001F\\u007F-\\u00A0\\u00AD\\u0600-\\u0605\\u061C\\u06DD\\u070F\\u0890-\\u0891'
        '\\u08E2\\u1680\\u180E\\u2000-\\u200F\\u2028-\\u202F\\u205F-\\u206F\\u3000\\uE000-\\uF8FF'
        '\\uFDD0-\\uFDEF\\uFEFF\\uFFF9-\\uFFFB\\uFFFE-\\uFFFF\\U000110BD\\U000110CD\\U00013430-\\U0001343F'
        '\\U0001BCA0-\\U0001BCA3\\U0001D173-\\U0001D17A\\U000E0001\\U000E0020-\\U000E007F'
        '\\U000F0000-\\U0010FFFF';
    cleaned constant text := regexp_replace(p_value, '^[' || blanks || ']+|[' || blanks || ']+$', '', 'g');
BEGIN
    IF coalesce(cleaned, '') = '' THEN
        RAISE EXCEPTION '% must not be blank', p_field USING ERRCODE = 'check_violation';
    ELSIF char_length(cleaned) > 255 THEN
        RAISE EXCEPTION '% must have at most 255 characters, not %', p_field, char_length(cleaned)
            USING ERRCODE = 'check_violation';
    ELSIF cleaned ~ ('[' || unprintable || ']') THEN
        RAISE EXCEPTION '% must hold only printable characters', p_field USING ERRCODE = 'check_violation';
    END IF;
    RETURN cleaned;
END $$;

-- Refuse data that cannot be read back unchanged. The cast to jsonb refuses NUL and lone surrogates; what else jsonb
-- would silently change is looked for in the text without its quoted parts: there every colon is a key's, and every
-- digit a number's.
CREATE OR REPLACE FUNCTION gatecast.check_data_v1(p_data json) RETURNS void LANGUAGE plpgsql IMMUTABLE SET jit = off AS $$
DECLARE
    quoted constant text := E'"([^"\\\\]|\\\\.)*"';
    size constant integer := octet_length(p_data::text);
    bare text;
    problem text;
BEGIN
    IF json_typeof(p_data) IS DISTINCT FROM 'object' THEN
        problem := 'be a JSON object';
    ELSIF size > 1048576 THEN
        problem := 'be at most 1,048,576 bytes of JSON; it is ' || size || ' bytes';
    ELSIF jsonb_path_exists(p_data::jsonb, 'strict $.**{33 to last}') THEN
        problem := 'be nested at most 32 deep';
    ELSE
        bare := regexp_replace(p_data::text, quoted, '', 'g');
        IF length(bare) - length(replace(bare, ':', ''))
           > (SELECT length(b) - length(replace(b, ':', ''))
              FROM regexp_replace(p_data::jsonb::text, quoted, '', 'g') AS b) THEN
            problem := 'name each key of an object once';
        ELSIF bare ~ '[0-9]{19}|[0-9][eE]' AND NOT gatecast.are_carried_v1(bare) THEN
            problem := 'hold integers of at most 64 bits';
        END IF;
    END IF;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION 'data must %', problem USING ERRCODE = 'check_violation';
    END IF;
EXCEPTION
    WHEN untranslatable_character OR invalid_text_representation OR statement_too_complex OR program_limit_exceeded THEN
        RAISE EXCEPTION 'data must hold no NUL and no lone surrogate, and be nested at most 32 deep: %', SQLERRM
            USING ERRCODE = 'check_violation';
    WHEN numeric_value_out_of_range THEN
        RAISE EXCEPTION 'data must hold only numbers that a double can carry: %', SQLERRM
            USING ERRCODE = 'check_violation';
END $$;

-- Whether every integer in JSON without its texts has at most 64 bits. Raises numeric_value_out_of_range for a number
-- with a fraction or an exponent that no double can carry.
CREATE OR REPLACE FUNCTION gatecast.are_carried_v1(p_bare text) RETURNS boolean LANGUAGE sql IMMUTABLE SET jit = off AS $$
    SELECT coalesce(bool_and(CASE WHEN n[1] ~ '[.eE]' THEN n[1]::float8 IS NOT NULL
                                  ELSE n[1]::numeric BETWEEN -9223372036854775808 AND 9223372036854775807 END), true)
    FROM regexp_matches(p_bare, '-?[0-9][0-9.eE+-]*', 'g') AS n
$$;

-- The instant, if every reader can read it.
CREATE OR REPLACE FUNCTION gatecast.clean_instant_v1(p_field text, p_value timestamptz) RETURNS timestamptz
LANGUAGE plpgsql IMMUTABLE SET jit = off AS $$
BEGIN
    IF p_value < '0001-01-01 00:00:00+00' OR p_value >= '10000-01-01 00:00:00+00' THEN
        RAISE EXCEPTION '% must lie within the years 1 to 9999 in UTC', p_field USING ERRCODE = 'check_violation';
    END IF;
    RETURN p_value;
END $$;

-- The traceparent as it is, if W3C Trace Context allows it; NULL for a change that is not traced.
CREATE OR REPLACE FUNCTION gatecast.clean_trace_parent_v1(p_field text, p_value text) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET jit = off AS $$
BEGIN
    IF p_value !~ '^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$' THEN
        RAISE EXCEPTION '% must be a W3C traceparent, like 00-<32 hex digits>-<16 hex digits>-01', p_field
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN p_value;
END $$;
