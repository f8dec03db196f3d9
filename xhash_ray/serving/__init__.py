"""What an endpoint does, without Ray: requests, filters, coalescing, groups of shards, certificates."""
