"""PostgreSQL 14 and newer as TRUTH. The work is done by the functions in `migrations/`; Python only calls them."""

from gatecast.storage.postgres.storage import PostgresStorage

__all__ = ["PostgresStorage"]
