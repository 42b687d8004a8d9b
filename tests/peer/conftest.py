"""The servers of tests/serving are used here too."""

from tests.serving.conftest import serving, starting

__all__ = ["serving", "starting"]
