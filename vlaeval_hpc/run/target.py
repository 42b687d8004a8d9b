"""Classes named in a config: `module:Class`."""

from __future__ import annotations

import importlib
from typing import Any, Mapping

from vlaeval_hpc.errors import ConfigurationError


def build(kind: str, target: str, arguments: Mapping[str, Any]) -> Any:
    """An instance of the class that `target` names. Raises ConfigurationError for a wrong name or argument."""
    module, _, name = target.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"{kind}.target: '{target}' cannot be imported: {error}") from error
    try:
        return found(**arguments)
    except TypeError as error:
        raise ConfigurationError(f"{kind}.params: {name} does not take them: {error}") from error
