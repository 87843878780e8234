"""Delivery: from a publisher into the log, from the log to each connection, and the peer's confirmations back.

- `publisher`: gathers what many callers publish into few statements
- `reader`: one loop per pod that reads for all its connections
- `feed`: one connection's bounded queue
- `resume`: where a connection starts, decided without I/O
- `progress`: stores what connections confirmed, in batches
- `presence`: the pod's lease, and orders to close connections
- `retention`: removes what is old
- `subscription`: one connection's view of all this
- `delivery`: starts and stops the parts
"""
