"""From a config to running processes: environments, plan, provenance, and the cluster that runs them."""
