"""The durable truth: the event log, positions and outcomes. See `gatecast.storage.contract`."""
