"""PostgreSQL 14 and newer: the backend for many pods. The SQL in `functions/` does the work; Python only calls it."""

from gatecast.storage.postgres.storage import PostgresStorage

__all__ = ["PostgresStorage"]
