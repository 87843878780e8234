"""A whole installation in one process on a clock of its own: real delivery code, simulated database, network, gateways.

- `database`: the three storage contracts in memory, with PostgreSQL's rules of visibility, and faults
- `jetstream`: the servers of NATS in memory, below the real engine, with replicas that lag and writes that come late
- `network`: sockets that delay, cut and deafen
- `gateways`: an unmodified gateway and a `gatecast.v2` client, as small as they can be
- `pods`: the real delivery, and what it is held to
- `world`: pods and gateways, and what they live in
- `happenings`: what may happen to them; `schedule`: what does, drawn by a seed or written down
- `rest`, `run`: a world lives through a schedule, comes to rest, and everything has arrived
- `history`: what happened, and the promises checked against it
- `isolation`: bounds of what waits, and whether who reads is supplied

Everything random comes from one seed, so a failure replays exactly, in another process too: nothing here may iterate
over a set of names.
"""
