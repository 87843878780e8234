"""Changes by operators: create, change, deploy and undeploy artifacts and keys, on all gateways concerned at once."""
