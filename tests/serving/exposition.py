"""A strict reader of Prometheus' text format, https://prometheus.io/docs/instrumenting/exposition_formats/ (0.0.4)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(rf'({NAME})(?:\{{([a-zA-Z_]\w*)="((?:[^"\\\n]|\\[\\"n])*)"\}})? (\S+)')


@dataclass
class Family:
    """HELP, TYPE and samples of one metric."""

    kind: str
    samples: dict[str, float] = field(default_factory=dict)


def parse(text: str) -> dict[str, Family]:
    """Families by name. AssertionError for what Prometheus would refuse or promtool would complain of."""
    assert text.endswith("\n")
    families: dict[str, Family] = {}
    helped = ""
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            found = re.fullmatch(rf"# HELP ({NAME}) (\S.*)", line)
            assert found, line
            helped = found[1]
        elif line.startswith("# TYPE "):
            found = re.fullmatch(rf"# TYPE ({NAME}) (counter|gauge|histogram)", line)
            assert found and found[1] == helped and helped not in families, line
            families[helped] = Family(found[2])
        else:
            found = SAMPLE.fullmatch(line)
            assert found, line
            family = families[helped]
            suffix = found[1].removeprefix(helped)
            assert suffix in (("_bucket", "_sum", "_count") if family.kind == "histogram" else ("",)), line
            assert (found[2] == "le") == (suffix == "_bucket"), line
            assert (family.kind == "counter") == helped.endswith("_total"), line
            key = line.rpartition(" ")[0]
            assert key not in family.samples, line
            family.samples[key] = float(found[4])
    for name, family in families.items():
        assert family.samples, name
        assert family.kind == "gauge" or all(v >= 0 for v in family.samples.values())
        if family.kind == "histogram":
            buckets = [(float(k.split('"')[1]), v) for k, v in family.samples.items() if "_bucket" in k]
            assert buckets == sorted(buckets), name
            assert [v for _, v in buckets] == sorted(v for _, v in buckets), name
            assert buckets[-1][0] == float("inf"), name
            assert buckets[-1][1] == family.samples[f"{name}_count"], name
    return families
