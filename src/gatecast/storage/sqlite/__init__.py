"""SQLite: the light backend, for one machine and any number of processes on it."""

from gatecast.storage.sqlite.storage import SqliteStorage

__all__ = ["SqliteStorage"]
