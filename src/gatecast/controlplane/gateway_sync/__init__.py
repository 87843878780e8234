"""What follows from what gateways say: acknowledgements, downloads, and bringing each to the desired state."""
