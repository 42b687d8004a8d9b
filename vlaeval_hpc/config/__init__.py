"""The composed configuration: its shape, its composition by Hydra, and what can be told wrong before a start."""
