-- `gatecast.publish` gets one more parameter, and forms for `text` and `jsonb`: see functions/publishing.sql. Beside the form
-- of before, a call without the new parameter would be ambiguous. Whoever revoked EXECUTE on it does so again.
DROP FUNCTION IF EXISTS gatecast.publish(text, text, text, text, text, json, uuid, timestamptz);
