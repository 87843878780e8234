"""Who may administer an organization, and the gateways that authenticate with tokens."""
