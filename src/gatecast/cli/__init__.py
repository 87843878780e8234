"""One command per file; `main` puts them together."""

from gatecast.extras import require

require("cli")
