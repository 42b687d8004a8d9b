"""A page: one file of HTML that needs nothing but itself."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaeval_hpc import __version__
from vlaeval_hpc.results.statustable import duration

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **content: Any) -> str:
    """HTML from templates/<template>.html; everything in `content` is text until the template says otherwise."""
    made_at = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return _environment().get_template(f"{template}.html").render(**content, made_at=made_at, version=__version__)


def told(mean: float | None, interval: Sequence[float | None] | None, rate: bool) -> str:
    """`76.7 % [59.1, 88.2]`; a mean of another metric in its own units."""
    if mean is None:
        return ""
    known = [] if interval is None else [bound for bound in interval if bound is not None]
    scale, form = (100, ".1f") if rate else (1, ".4g")
    bounds = f" [{', '.join(format(scale * bound, form) for bound in known)}]" if known else ""
    return format(scale * mean, form) + (" %" if rate else "") + bounds


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["told"] = told
    made.filters["duration"] = duration
    made.filters["day"] = _day
    return made


def _day(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M")
