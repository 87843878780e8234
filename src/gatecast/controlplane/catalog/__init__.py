"""What can run on gateways: artifacts of every kind, templates, and what gateways made themselves."""
