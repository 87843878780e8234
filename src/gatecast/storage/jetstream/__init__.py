"""The event log on NATS JetStream. Needs the extra `jetstream`."""

from gatecast.storage.jetstream.engine import JetStreamEngine, StreamFacts, look

__all__ = ["JetStreamEngine", "StreamFacts", "look"]
