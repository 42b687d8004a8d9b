"""The surface of openpi's own module at 15a9616."""

from enum import Enum
from types import SimpleNamespace


class ModelType(Enum):
    PI0 = "pi0"
    PI0_FAST = "pi0_fast"
    PI05 = "pi05"


_CONFIGS = {
    "pi05_libero": SimpleNamespace(model_type=ModelType.PI05, action_horizon=10, action_dim=32),
    "pi0_fast_libero": SimpleNamespace(model_type=ModelType.PI0_FAST, action_horizon=10, action_dim=7),
}


def get_config(config_name: str):
    if config_name not in _CONFIGS:
        raise ValueError(f"Config '{config_name}' not found. Did you mean 'pi05_libero'?")
    return SimpleNamespace(model=_CONFIGS[config_name])
