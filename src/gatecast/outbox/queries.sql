-- Understood by PostgreSQL and SQLite alike. For SQLite, names of tables of the event log begin with `gatecast_`.

-- name: forwarder
SELECT pod_id, term, beats, log, log_place FROM gatecast_outbox_forwarder

-- name: take
-- Of several processes that saw the same row, one succeeds; none that would forward into another log ($5).
-- After a term of an earlier release, which keeps no ids, they are known since now.
UPDATE gatecast_outbox_forwarder SET pod_id = $1, term = $2, beats = 0, ids_term = $2,
    ids_since = CASE WHEN ids_term = term THEN ids_since ELSE date_part('epoch', now()) END
WHERE term = $3 AND beats = $4 AND log = $5

-- name: beat
UPDATE gatecast_outbox_forwarder SET beats = beats + 1 WHERE term = $1

-- name: give_up
UPDATE gatecast_outbox_forwarder SET pod_id = '' WHERE term = $1

-- name: bind
-- To this log ($1), unless it is bound to another one.
UPDATE gatecast_outbox_forwarder SET log = $1, log_place = $2 WHERE log IN ('', $1)

-- name: rebind
-- From one log ($1) to another ($2). The present forwarder has the earlier log: its term ends ($4 is the next).
UPDATE gatecast_outbox_forwarder
SET log = $2, log_place = $3, pod_id = '', term = $4, beats = 0, ids_since = NULL, ids_term = $4
WHERE log = $1

-- name: begin_anew
-- The log of each gateway is looked up, or created, before anything is forwarded. This log may accept what the previous
-- one refused.
UPDATE gatecast_outbox_gateways SET log_epoch = '', refused = 0, reason = ''

-- name: free_forwarded_ids
-- What was forwarded into the previous log and is published again is an event of this one.
UPDATE gatecast.events SET event_id = gen_random_uuid()
WHERE EXISTS (SELECT 1 FROM gatecast_outbox_gateways g
              WHERE g.outbox_log = gatecast.events.log_id AND gatecast.events."offset" <= g.forwarded)

-- name: begin_ids
-- Unless it is known already: since ever ($1 is 1), or since now.
UPDATE gatecast_outbox_forwarder SET ids_since = CASE WHEN $1 = 1 THEN 0 ELSE date_part('epoch', now()) END
WHERE ids_since IS NULL

-- name: begin_ids_anew
UPDATE gatecast_outbox_forwarder SET ids_since = date_part('epoch', now())

-- name: knows_ids
-- Whether the ids of all events published in the last $1 seconds are known.
SELECT coalesce(ids_since + $1 <= date_part('epoch', now()) AND ids_term = term, false) AS knows_ids
FROM gatecast_outbox_forwarder

-- name: forget_ids
-- Ids of events that were published more than $1 seconds ago are about to be removed.
UPDATE gatecast_outbox_forwarder SET ids_since = date_part('epoch', now()) - $1
WHERE ids_since < date_part('epoch', now()) - $1

-- name: log_epochs
SELECT DISTINCT log_epoch FROM gatecast_outbox_gateways WHERE log_epoch <> ''

-- name: waiting
-- What is to be done, all from one instant: the gateways with entries (`head` is past `forwarded`), those that were
-- registered (`outbox_log` is not their log, `log_id`, or `log_epoch` is not known yet) and those that were deleted (they have no `log_id`).
SELECT s.gateway_id, s.log_id, s.head, g.outbox_log, g.forwarded, g.log_epoch, g.log_head, g.refused, g.reason,
       (SELECT date_part('epoch', e.recorded_at) FROM gatecast.events e
        WHERE e.log_id = s.log_id AND e."offset" > CASE WHEN g.outbox_log = s.log_id THEN g.forwarded ELSE 0 END
        ORDER BY e."offset" LIMIT 1) AS since
FROM gatecast.gateway_streams s LEFT JOIN gatecast_outbox_gateways g ON g.gateway_id = s.gateway_id
WHERE g.outbox_log IS NULL OR g.outbox_log <> s.log_id OR g.log_epoch = '' OR s.head > g.forwarded
UNION ALL
SELECT g.gateway_id, NULL, 0, g.outbox_log, g.forwarded, g.log_epoch, g.log_head, g.refused, g.reason, NULL
FROM gatecast_outbox_gateways g
WHERE NOT EXISTS (SELECT 1 FROM gatecast.gateway_streams s WHERE s.gateway_id = g.gateway_id)

-- name: entries
-- How many entries of each of these gateways wait. The gateways ($1) are the names in an object: both databases can take
-- that apart.
SELECT w.gateway_id, w.entries
FROM (SELECT s.gateway_id, s.head - CASE WHEN g.outbox_log = s.log_id THEN g.forwarded ELSE 0 END AS entries
      FROM gatecast.gateway_streams s LEFT JOIN gatecast_outbox_gateways g ON g.gateway_id = s.gateway_id
      WHERE s.gateway_id IN (SELECT e.key FROM json_each($1) AS e)) AS w
WHERE w.entries > 0

-- name: marked
SELECT gateway_id FROM gatecast_outbox_gateways

-- name: with_logs
SELECT g.gateway_id, g.outbox_log, g.forwarded, g.log_epoch, g.log_head, g.refused, g.reason
FROM gatecast_outbox_gateways g JOIN gatecast.gateway_streams s ON s.gateway_id = g.gateway_id AND s.log_id = g.outbox_log
WHERE g.log_epoch <> ''

-- name: mark
SELECT gateway_id, outbox_log, forwarded, log_epoch, log_head, refused, reason FROM gatecast_outbox_gateways
WHERE gateway_id = $1

-- name: adopt
INSERT INTO gatecast_outbox_gateways (gateway_id, outbox_log, forwarded, log_epoch, log_head)
SELECT gateway_id, log_id, 0, '', 0 FROM gatecast.gateway_streams WHERE gateway_id = $1
ON CONFLICT (gateway_id) DO NOTHING

-- name: save
-- The marks ($1) are an object of lists, one for each gateway: both databases can take that apart. One statement, so that on
-- SQLite the write lock is never held while something else is waited for. Nothing is recorded if the term ($2) is over,
-- and nobody can take over before the transaction ends.
INSERT INTO gatecast_outbox_gateways (gateway_id, outbox_log, forwarded, log_epoch, log_head, refused, reason)
SELECT e.value ->> 0, CAST(e.value ->> 1 AS bigint), CAST(e.value ->> 2 AS bigint), e.value ->> 3,
       CAST(e.value ->> 4 AS bigint), CAST(e.value ->> 5 AS bigint), e.value ->> 6
FROM json_each($1) AS e
    CROSS JOIN (SELECT term FROM gatecast_outbox_forwarder WHERE term = $2 FOR NO KEY UPDATE) AS held
WHERE true
ON CONFLICT (gateway_id) DO UPDATE SET outbox_log = excluded.outbox_log, forwarded = excluded.forwarded,
    log_epoch = excluded.log_epoch, log_head = excluded.log_head, refused = excluded.refused, reason = excluded.reason

-- name: drop
DELETE FROM gatecast_outbox_gateways
WHERE gateway_id = $1 AND outbox_log = $2 AND EXISTS (SELECT 1 FROM gatecast_outbox_forwarder WHERE term = $3)

-- name: try_again
-- An entry that was not forwarded ends the doubt about all after it. So the end of the log is looked up anew, and the log is
-- created if there is none.
UPDATE gatecast_outbox_gateways SET refused = 0, reason = '', log_epoch = ''
WHERE gateway_id = $1 AND outbox_log = $2 AND refused = $3

-- name: leave_out
UPDATE gatecast_outbox_gateways SET forwarded = refused, refused = 0, reason = ''
WHERE gateway_id = $1 AND outbox_log = $2 AND refused = $3 AND refused > forwarded

-- name: free_id
-- An event that was left out and is published again is another entry.
UPDATE gatecast.events SET event_id = $3 WHERE log_id = $1 AND "offset" = $2

-- name: confirm
-- Forwarded events count as confirmed in the outbox, so that its retention removes them. A gateway whose row is held,
-- as by a transaction that deletes it, is skipped until later, without waiting.
INSERT INTO gatecast.cursors (gateway_id, replica, epoch, sent, confirmed, updated_at)
SELECT s.gateway_id, 'outbox', p.current, g.forwarded, g.forwarded, now()
FROM (SELECT gateway_id, log_id FROM gatecast.gateway_streams
      WHERE gateway_id IN (SELECT b.gateway_id FROM gatecast_outbox_gateways b
                           LEFT JOIN gatecast.cursors c ON c.gateway_id = b.gateway_id AND c.replica = 'outbox'
                           WHERE b.forwarded > coalesce(c.confirmed, 0))
      FOR KEY SHARE SKIP LOCKED) AS s
    JOIN gatecast_outbox_gateways AS g ON g.gateway_id = s.gateway_id AND g.outbox_log = s.log_id
    CROSS JOIN gatecast.epoch AS p
WHERE true
ON CONFLICT (gateway_id, replica) DO UPDATE SET epoch = excluded.epoch, sent = excluded.sent,
    confirmed = excluded.confirmed, updated_at = excluded.updated_at
