"""Gatecast: durable, ordered, confirmed delivery of configuration changes to gateways."""
