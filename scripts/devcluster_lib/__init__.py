"""The parts of `scripts/devcluster`, one subject a module; standard library only."""
