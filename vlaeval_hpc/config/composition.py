"""Hydra, behind one function: command line in, checked Config objects out, errors in one line."""

from __future__ import annotations

import math
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from vlaeval_hpc.config.plugins import register
from vlaeval_hpc.config.schema import Config
from vlaeval_hpc.config.vla_eval import mode_of_vla_eval, with_vla_eval
from vlaeval_hpc.errors import ConfigurationError, VlaevalError, unknown

GROUPS = ("model", "benchmark", "cluster", "container", "pairing", "tracking", "recording", "mode")


def conf_folder() -> Path:
    """The configuration that comes with the package: inside it when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def for_each(overrides: list[str], job: Callable[[Config, list[str], bool], None]) -> None:
    """Compose `overrides` as Hydra does (also -m, --cfg, --config-dir, ...) and call `job` for each point.

    `job` gets the config, the point's own overrides, and whether it is one of several. Raises ConfigurationError for
    whatever Hydra cannot compose.
    """
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf import DictConfig
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from vlaeval_hpc.config.sweep import resolved

    register()
    failed: list[Exception] = []
    composing = True

    def task(composed: DictConfig) -> None:
        nonlocal composing
        composing = False
        settings = HydraConfig.get()
        try:
            job(checked(composed), list(settings.overrides.task), settings.mode == RunMode.MULTIRUN)
        except (VlaevalError, OmegaConfBaseException) as error:
            failed.append(error)  # Hydra would print its own lines over ours

    # Hydra then lets exceptions through, instead of printing them and ending the process.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    before = sys.argv
    words = resolved(with_server(overrides))
    # Where Hydra notes what it sweeps over: a sweep's folder tells more.
    scratch = tempfile.TemporaryDirectory(prefix="vlaeval_hpc-", ignore_cleanup_errors=True)
    if {"-m", "--multirun"} & set(words):
        words = [*words, f"hydra.sweep.dir='{scratch.name}'"]
    sys.argv = ["vlaeval_hpc", *_options_first(words)]
    try:
        hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")(task)()
        if failed:
            raise failed[0]
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise explained(error, overrides) from error
    except ValueError as error:
        if not composing:
            raise
        raise explained(error, overrides) from error
    finally:
        sys.argv = before
        scratch.cleanup()


def compose(overrides: list[str]) -> Config:
    """One config from overrides alone, whatever else this process does with Hydra. Raises ConfigurationError."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.singleton import Singleton
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    register()
    state = Singleton.get_state()
    try:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            return checked(hydra_compose("config", overrides))
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
        raise explained(error, overrides) from error
    finally:
        Singleton.set_state(state)


def _options_first(words: list[str]) -> list[str]:
    """Hydra takes no override after an option that stands between overrides; people write `-m` wherever they are."""
    overrides = [w for w in words if ("=" in w and not w.startswith("-")) or w.startswith("~")]
    return [*(w for w in words if w not in overrides), *overrides]


def with_server(overrides: list[str]) -> list[str]:
    """The overrides as Hydra takes them where a server's URL is given.

    Its token goes into the environment, as VLAEVAL_HPC_TOKEN: Hydra writes overrides into files. The URL is quoted:
    Hydra's grammar has no `=` in a bare value. `model=remote` is added where no model is named: what the server serves
    is its affair.
    """
    key, found = "server.url=", []
    for override in overrides:
        if override.startswith(key):
            url = override.removeprefix(key).strip("'\"")
            token = re.search(r"[?&]token=([^&]+)", url)
            if token:
                os.environ["VLAEVAL_HPC_TOKEN"] = unquote(token[1])
                url = url.replace(token[0], "")
            override = f"{key}'{url}'"
        found.append(override)
    named = {o.partition("=")[0] for o in overrides}
    return [*found, "model=remote"] if "server.url" in named and "model" not in named else found


def checked(composed: Any) -> Config:
    """The composed config as objects of the schema. Raises OmegaConf's errors for a wrong key or type."""
    from omegaconf import OmegaConf

    merged = OmegaConf.merge(
        OmegaConf.structured(Config), OmegaConf.create(OmegaConf.to_container(composed, resolve=True))
    )
    found = OmegaConf.to_object(merged)
    assert isinstance(found, Config)
    found.mode = mode_of_vla_eval(found.benchmark, found.mode)
    found.benchmark = with_vla_eval(found.benchmark)
    for key, value in _flat(asdict(found)):
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigurationError(f"{key}={value}: a finite number is needed; a word is quoted: {key}='\"{value}\"'")
    return found


def to_yaml(config: Config) -> str:
    """The whole config, resolved, as config.yaml holds it."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.structured(config))


def from_yaml(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read config.yaml, with `key=value` changes. Raises ConfigurationError where it is missing or not of this schema,
    or a change is not of its form or names no key."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    wrong = next((o for o in overrides if "=" not in o or o.startswith("-")), None)
    if wrong is not None:
        raise ConfigurationError(f"{wrong}: valid: key=value")
    try:
        found = OmegaConf.load(path)
        return checked(OmegaConf.merge(found, OmegaConf.from_dotlist([o.lstrip("+") for o in overrides])))
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: no such file: is this a run directory?") from None
    except (OmegaConfBaseException, YAMLError, OSError) as error:
        raise ConfigurationError(f"{path}: {' '.join(str(error).split())}") from error


def explained(error: Exception, overrides: list[str]) -> ConfigurationError:
    """Hydra's or OmegaConf's error in one line: what was wrong, where, what is valid."""
    text = str(error)
    option = re.search(r"Could not find '(\w+)/([^']+)'\s+Available options in '\w+':((?:\s+[\w.-]+\n)*)", text)
    if option:
        return unknown(option[1], option[2], option[3].split())
    key = re.search(r"Could not override '([^']+)'", text)
    if key:
        return _unknown_key(key[1].partition("@")[0], overrides)
    key = re.search(r"full_key: (\S+)", text)
    if key and "not in '" in text:
        return _unknown_key(key[1], overrides)
    if type(error).__module__.startswith("yaml"):
        return ConfigurationError(f"not YAML: {' '.join(text.split())}")
    first = text.splitlines()[0] if text else type(error).__name__
    return ConfigurationError(f"{key[1]}: {first}" if key else " ".join(text.split()))


def _unknown_key(key: str, overrides: list[str]) -> ConfigurationError:
    keys = _keys(overrides)
    if any(k == key or k.startswith(f"{key}.") for k in keys):
        return ConfigurationError(f"{key} has no such entry yet: with a plus it gets one: +{key}=...")
    section = key.rpartition(".")[0] + "."
    return unknown("key", key, [k for k in keys if k.startswith(section)] or keys)


def _keys(overrides: list[str]) -> list[str]:
    """Every dotted key of the config that the chosen groups make."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    GlobalHydra.instance().clear()
    chosen = [o for o in overrides if o.startswith("hydra.searchpath=")]
    chosen += [o for o in overrides if o.partition("=")[0] in GROUPS and "," not in o]
    for option, folder in pairwise(overrides):
        if option in ("--config-dir", "-cd"):
            chosen.append(f"hydra.searchpath=[file://{Path(folder).absolute()}]")
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        composed: Any = OmegaConf.to_container(compose("config", chosen))
    return [*GROUPS, *(key for key, _ in _flat(composed))]


def _flat(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values."""
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
