"""What runs inside a benchmark's environment or image: a shard, its simulator process, the client."""
