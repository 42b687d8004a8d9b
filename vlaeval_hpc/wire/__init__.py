"""Messages between a shard and a policy server: vla-eval's protocol version 1, as values and bytes, without I/O."""
