"""Stand-ins for one part, so that a test can say what the part does."""
