"""One command per file; `main` puts them together."""
