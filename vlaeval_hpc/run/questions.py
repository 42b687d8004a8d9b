"""A process that answers questions of whoever started it: a line of JSON each way, over its standard streams."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Callable, Dict

from vlaeval_hpc.errors import ConfigurationError


def answer_questions(answer: Callable[[Dict[str, Any]], Dict[str, Any]]) -> None:
    """Answer until standard input ends; a ConfigurationError is answered as {"error": text}.

    Libraries may print when they are imported: standard output becomes standard error, so that the answers stand alone.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        try:
            found = answer(json.loads(line))
        except ConfigurationError as error:
            found = {"error": str(error)}
        answers.write(json.dumps(found) + "\n")
        answers.flush()
