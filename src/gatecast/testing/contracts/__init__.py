"""The contracts of every storage, as suites that run on each of them."""
