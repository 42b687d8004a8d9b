from __future__ import annotations

import os
from pathlib import Path

from vlaeval_hpc.run.rendezvous import Rendezvous, beat


def made(nonce: str) -> Rendezvous:
    return Rendezvous(run="r", replica=0, urls=["ws://here:1"], token="t", nonce=nonce, host="here", pid=7)


def test_what_was_damaged_is_published_again_and_another_servers_is_left(tmp_path: Path) -> None:
    path, mine = tmp_path / "rendezvous-0.json", made("mine")
    mine.publish(path)
    os.truncate(path, 20)
    beat(path, mine)
    found = Rendezvous.read(path)
    assert found is not None and found.nonce == "mine" and path.stat().st_mode & 0o777 == 0o600
    made("another's").publish(path)  # whoever was started in our place
    beat(path, mine)
    found = Rendezvous.read(path)
    assert found is not None and found.nonce == "another's"
