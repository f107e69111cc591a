"""Machine guests: how one starts, and the order in which its vCPUs run."""
