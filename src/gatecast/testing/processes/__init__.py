"""Real processes for tests: pods, servers, and load on them."""
