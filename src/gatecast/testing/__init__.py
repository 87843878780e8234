"""Tools for tests that use Gatecast, and for testing a backend of your own."""

from gatecast.extras import require

require("testing")
