"""One change, all of it or nothing: its locks, its time, and its events."""
