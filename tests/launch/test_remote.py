from __future__ import annotations

import os

import pytest

from vlaeval_hpc.config.composition import with_server
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch.remote import RemoteServer


def test_a_pasted_url_loses_its_token_before_anything_can_write_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLAEVAL_HPC_TOKEN", "")
    assert with_server(["server.url=ws://h:8000/?token=a%2Bb"]) == ["server.url='ws://h:8000/'", "model=remote"]
    assert os.environ["VLAEVAL_HPC_TOKEN"] == "a+b"
    assert RemoteServer.parse("ws://h:8000/") == RemoteServer("ws://h:8000", "a+b")


def test_other_overrides_and_a_named_model_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["benchmark=toy", "model=pilot", "server.url='wss://h/path'"]
    assert with_server(given) == given
    assert with_server(["benchmark=toy"]) == ["benchmark=toy"]


@pytest.mark.parametrize("url", ["http://h", "h:8000", "ws://", "ws://h:99999"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="server.url"):
        RemoteServer.parse(url)
