"""The tables of the outbox, in SQL that PostgreSQL and SQLite both understand."""
