"""How shards find a policy server: a private file that the server keeps fresh."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

from vlaeval_hpc.errors import InfrastructureError
from vlaeval_hpc.run.files import SCHEMA, write_json

HEARTBEAT = 5.0  # seconds between two touches by the server


@dataclass(frozen=True)
class Rendezvous:
    """Where one replica listens. `urls` in order of preference; `nonce` is what its /health must answer with;
    `draining`: it ends its episodes and takes no new ones."""

    run: str
    replica: int
    urls: List[str]
    token: str
    nonce: str
    host: str
    pid: int
    job: Optional[str] = None
    published: float = 0.0
    draining: bool = False
    schema: int = SCHEMA

    def publish(self, path: Path) -> None:
        """Write it, readable by the user alone: it holds the token."""
        write_json(path, {**asdict(self), "published": time.time()}, mode=0o600)

    @classmethod
    def read(cls, path: Path) -> Optional["Rendezvous"]:
        """The file's content, None where there is none yet or it cannot be understood."""
        try:
            raw: Dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            known = {k: raw[k] for k in cls.__dataclass_fields__ if k in raw}
            found = cls(**known)
        except (OSError, ValueError, TypeError, AttributeError):
            return None
        return found if isinstance(found.urls, list) and found.schema <= SCHEMA else None


def beat(path: Path, published: Rendezvous) -> None:
    """Tell that the server lives, and publish again what cannot be read any more."""
    try:
        os.utime(str(path))
        if Rendezvous.read(path) is None:
            published.publish(path)
    except (OSError, InfrastructureError):
        pass
