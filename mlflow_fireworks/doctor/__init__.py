"""Why something does not work: this machine, the account, the registries, one deployment, the hooks."""
