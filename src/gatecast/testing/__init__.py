"""For those who test with Gatecast, or test a backend of their own."""
