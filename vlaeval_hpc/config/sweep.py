"""What a sweep's overrides say: which keys vary, over what, and in which order."""

from __future__ import annotations

import fnmatch
import glob
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, Quote, QuotedString
from hydra.errors import HydraException

from vlaeval_hpc.errors import ConfigurationError

CHECKPOINT = "model.checkpoint"
UNITS = {"": 1, "k": 1_000, "m": 1_000_000}
NUMBER = re.compile(r"(\d+)([kKmM]?)(?![a-zA-Z])")
SAID = re.compile(r"steps?[-_=]?(\d+)([kKmM]?)(?![a-zA-Z])", re.IGNORECASE)


@dataclass(frozen=True)
class Axis:
    """A key that varies, and what it was said to vary over: the same for the same sweep typed again."""

    key: str
    over: str


def axes(words: Sequence[str]) -> list[Axis]:
    """The keys that a command line varies, in order. Raises ConfigurationError for a glob without -m."""
    found = []
    several = bool({"-m", "--multirun"} & set(words))
    for word in words:
        override = _parsed(word)
        if override is None or not override.is_sweep_override() or override.is_hydra_override():
            continue
        if _pattern(override) and not several:
            raise ConfigurationError(f"{word}: a sweep needs -m")
        key = override.key_or_group
        listed = override.is_choice_sweep() and not _pattern(override)
        over = ",".join(sorted(override.sweep_string_iterator())) if listed else word.partition("=")[2]
        found.append(Axis(key, str(over)))
    return found


def resolved(words: Sequence[str]) -> list[str]:
    """The command line with globs of values as the paths that are there, and checkpoints in the order of training.

    Hydra's own glob() is for options of config groups. Raises ConfigurationError where nothing matches.
    """
    return [_resolved(word) for word in words]


def training_steps(checkpoints: Sequence[str]) -> list[int | None]:
    """Each checkpoint's training step, from its name; None where that tells none.

    The number behind the word `step` (`epoch=3-step=12000.ckpt`), else the last number of those that differ in names
    that are alike otherwise: a name that is like no other (`last`) tells none. `80k` is 80,000.
    """
    said = [_last(SAID, text) for text in checkpoints]
    if all(step is not None for step in said):
        return said
    shapes = [NUMBER.sub("#", text) for text in checkpoints]
    common, count = Counter(shapes).most_common(1)[0] if shapes else ("", 0)
    numbers = [[int(n) * UNITS[unit.lower()] for n, unit in NUMBER.findall(text)] for text in checkpoints]
    alike = [found for found, shape in zip(numbers, shapes, strict=True) if shape == common]
    places = [i for i in range(len(alike[0]) if alike else 0) if len({found[i] for found in alike}) > 1]
    if count == len(checkpoints) == 1 and numbers[0]:
        places = [len(numbers[0]) - 1]
    if not places:
        return said
    return [
        step if step is not None else found[places[-1]] if shape == common else None
        for step, found, shape in zip(said, numbers, shapes, strict=True)
    ]


def in_order(checkpoints: Sequence[str]) -> list[str]:
    """Checkpoints by training step, those without one behind; as they are where none has one."""
    steps = training_steps(checkpoints)
    return [text for _, text in sorted(zip(steps, checkpoints, strict=True), key=lambda p: (p[0] is None, p[0] or 0))]


def short_names(checkpoints: Sequence[str]) -> list[str]:
    """What tells the checkpoints apart: paths without the folders that all are in, and without what all end with."""
    parts = [Path(text).parts or (text,) for text in checkpoints]
    ahead = behind = 0
    least = min(map(len, parts), default=0)
    while ahead < least - 1 and len({p[ahead] for p in parts}) == 1:
        ahead += 1
    while behind < least - 1 - ahead and len({p[len(p) - 1 - behind] for p in parts}) == 1:
        behind += 1
    if len(parts) == 1:
        ahead, behind = len(parts[0]) - 1, 0
    return [str(Path(*p[ahead : len(p) - behind])) for p in parts]


def value_of(overrides: Sequence[str], key: str) -> str:
    """What a point's overrides say of a key, as text without quotes; the last counts."""
    found = [o for word in overrides if (o := _parsed(word)) is not None and o.key_or_group == key]
    return (_text(found[-1].value()) if found else "") or "''"


def _resolved(word: str) -> str:
    override = _parsed(word)
    if override is None or not override.is_sweep_override():
        return word
    pattern = _pattern(override)
    if pattern:
        values = _there(word, *pattern)
        # A name may hold what Hydra's grammar means something by.
        quoted = {path: QuotedString(path, Quote.single).with_quotes() for path in values}
    elif override.key_or_group == CHECKPOINT and override.is_discrete_sweep():
        quoted = {text.strip("'\""): text for text in map(str, override.sweep_string_iterator())}
        values = in_order(list(quoted))
    else:
        return word
    return f"{override.get_key_element()}={','.join(quoted[v] for v in values)}"


def _there(word: str, include: list[str], exclude: list[str]) -> list[str]:
    """The paths that match, in the order of training, else that of their names with numbers as such."""
    found = {path for one in include for path in glob.glob(str(Path(one).expanduser()), recursive=True)}
    found = {p for p in found if not any(fnmatch.fnmatch(t, e) for e in exclude for t in (p, Path(p).name))}
    if not found:
        raise ConfigurationError(f"{word}: nothing there matches, in {Path.cwd()}")
    return in_order(sorted(found, key=lambda p: [(int(d or 0), t) for d, t in re.findall(r"(\d+)|(\D+)", p)]))


def _pattern(override: Override) -> tuple[list[str], list[str]] | None:
    """A glob of a value: what it takes and what it leaves out."""
    value = override.value()
    if not isinstance(value, Glob) or ("." not in override.key_or_group):
        return None
    return [_text(v) for v in value.include], [_text(v) for v in value.exclude]


def _text(value: object) -> str:
    return value.text if isinstance(value, QuotedString) else str(value)


def _parsed(word: str) -> Override | None:
    """What Hydra makes of a word; None for an option, and for what Hydra will refuse in its own words."""
    if word.startswith("-") or "=" not in word:
        return None
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException:
        return None


def _last(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.findall(text)
    return int(found[-1][0]) * UNITS[found[-1][1].lower()] if found else None
