"""What operators do: change, deploy and undeploy artifacts and their keys, on all gateways concerned at once."""
