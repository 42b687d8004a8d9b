"""The policy server: sessions, batching, and the file by which shards find it. Runs in the policy's environment."""
