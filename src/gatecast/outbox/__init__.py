"""The outbox: events that commit with a change of the application's SQL database, and are then forwarded to the log.

An outbox is a database of Gatecast in the application's own SQL database: it has a log for each gateway, which is empty
most of the time. A publish appends to it, in the caller's transaction or in one of its own, by the same statements that
append to a log. One process at a time, the forwarder, publishes to the real log what was committed to the outbox.

- `log`: the log as a hub with an outbox sees it: it is read from the log, and written to the outbox
- `forwarder`: moves committed entries to the log, in order
- `following`: registers and deletes in the log what was registered and deleted in the outbox
- `reach`: the log, as long as a term lasts
- `lease`: which process forwards
- `records`: the tables that belong to forwarding
- `entries`: what waits and what is refused, for people
- `binding`: to which log an outbox belongs
- `outbox`: an open outbox
"""
