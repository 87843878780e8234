"""HINT: tells pods to look again. See `gatecast.wakeup.contract`."""
