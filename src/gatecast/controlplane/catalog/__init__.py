"""What can run on gateways: artifacts of every kind, their templates and keys, and artifacts made on gateways."""
