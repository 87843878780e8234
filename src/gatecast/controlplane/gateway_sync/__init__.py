"""Synchronization with gateways: acknowledgements, downloads, and bringing each gateway to the desired state."""
