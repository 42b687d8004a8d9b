"""A policy server that is there already, ours or vla-eval's."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.plan import Plan
from vlaeval_hpc.run.rendezvous import Rendezvous


@dataclass(frozen=True)
class RemoteServer:
    """Its URL without the token, and the token, which goes into no file but the private rendezvous."""

    url: str
    token: str

    @classmethod
    def parse(cls, text: str) -> RemoteServer:
        """Read `server.url`; the token is VLAEVAL_HPC_TOKEN's. Raises ConfigurationError."""
        try:
            parts = urlsplit(text)
            _ = parts.port
        except ValueError as error:
            raise ConfigurationError(f"server.url: {error}: valid: ws://HOST:PORT") from error
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise ConfigurationError(f"server.url='{text.partition('?')[0]}': valid: ws://HOST:PORT, wss://HOST:PORT")
        url = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
        return cls(url, os.environ.get("VLAEVAL_HPC_TOKEN", ""))

    def check(self) -> None:
        """Raises ConfigurationError where nothing answers there: a run would only wait for it."""
        address = "http" + self.url.removeprefix("ws") + "/health"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            opener.open(address, timeout=10).close()
        except urllib.error.HTTPError:
            pass  # it is there, loading, or of a kind that has no /health
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise ConfigurationError(f"server.url={self.url}: no server answers: {reason}") from error

    def publish(self, run: RunDirectory, plan: Plan) -> None:
        """Tell the run's shards of it, as a server of ours does itself."""
        for stale in run.server.glob("rendezvous-*.json"):
            stale.unlink()
        known = Rendezvous(run=plan.run, replica=0, urls=[self.url], token=self.token, nonce="", host="", pid=0)
        known.publish(run.rendezvous(0))
