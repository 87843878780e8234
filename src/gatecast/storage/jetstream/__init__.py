"""The event log on NATS JetStream. Needs the extra `jetstream`."""

from gatecast.storage.jetstream.engine import JetStreamEngine

__all__ = ["JetStreamEngine"]
