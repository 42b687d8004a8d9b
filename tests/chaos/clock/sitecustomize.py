"""A node's clock that is wrong, and jumps: Python imports this first in every process of a job of tests.chaos.

The file $CLOCKS/<node> tells how many seconds the wall clock is off; it may change at any time. The monotonic clock and
the times that the file server stamps are right, as they are on a node whose own clock is set.
"""

import datetime
import os
import time

_true_time = time.time
_true_datetime = datetime.datetime
_file = os.path.join(os.environ.get("CLOCKS", ""), os.environ.get("SLURMD_NODENAME", "none"))


def _off():
    try:
        with open(_file) as stream:
            return float(stream.read())
    except (OSError, ValueError):
        return 0.0


class _Datetime(_true_datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)


time.time = lambda: _true_time() + _off()
time.time_ns = lambda: int(time.time() * 1e9)
datetime.datetime = _Datetime
