"""For those who test with Gatecast, or test a backend of their own."""

from gatecast.extras import require

require("testing")
