"""LANGUAGE: the gateway protocol, without I/O.

- `close_codes`: why a connection ends, and whether to come back
- `messages`: what gateways say, as values
- `codec`: values to text and back
- `session`: the server's side of one connection as a state machine
"""
