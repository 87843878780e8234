"""The control plane's own tables."""

#: The packages whose migrations make them.
MIGRATIONS = (__name__,)
