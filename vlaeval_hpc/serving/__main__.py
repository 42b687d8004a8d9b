"""Start a server: `serving RUN [--replica N]` for a run, `serving -` with {model, server} as JSON on standard input.

`serving describe` answers, a line of JSON for each on standard input, what a policy gives and takes, without loading
it, `serving check` what one that is loaded does (serving.conformance), `serving tune` how fast it answers
(serving.tuning). The user's verbs are in vlaeval_hpc.cli; this is what they start in the policy's environment.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import sys
import traceback
from typing import Any
from urllib.parse import quote

from vlaeval_hpc.errors import ConfigurationError, VlaevalError
from vlaeval_hpc.policies.base import Policy
from vlaeval_hpc.run import lifeline
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.output import print_what_fits
from vlaeval_hpc.run.plan import Plan
from vlaeval_hpc.run.questions import answer_questions
from vlaeval_hpc.run.rendezvous import Rendezvous
from vlaeval_hpc.run.target import build
from vlaeval_hpc.serving import conformance
from vlaeval_hpc.serving.chunks import ActionQueue
from vlaeval_hpc.serving.content import contents
from vlaeval_hpc.serving.server import Place, PolicyServer
from vlaeval_hpc.serving.tuning import Asker


def main() -> int:
    """Exit status 0 after a quiet end, 2 for a bad configuration, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="vlaeval_hpc.serving")
    parser.add_argument("run", help="a run directory, '-', 'describe', 'check' or 'tune' (JSON on standard input)")
    parser.add_argument("--replica", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.run not in ("describe", "check", "tune", "-"):
        print_what_fits()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("websockets.quiet").setLevel(logging.CRITICAL)
    try:
        if arguments.run == "describe":
            answer_questions(lambda question: describe(question["model"]))
        elif arguments.run == "check":
            answer_questions(lambda question: conformance.answer(question, make_policy(question["model"])))
        elif arguments.run == "tune":
            answer_questions(Asker(make_policy).answer)
        elif arguments.run == "-":
            spec = json.load(sys.stdin)
            _serve(spec["model"], spec["server"], Place(host=spec["server"]["host"], port=spec["server"]["port"]))
        else:
            lifeline.hold()
            run = RunDirectory(arguments.run)
            plan = Plan.load(run.plan)
            _serve(plan.model, plan.server, place_in(run, plan, arguments.replica))
    except VlaevalError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def describe(model: dict[str, Any]) -> dict[str, Any]:
    """The policy's specs and its checkpoint's hash. Raises ConfigurationError where it cannot be made."""
    policy = make_policy(model)
    files = contents(policy.files())
    return {
        "action_spec": {k: s.to_dict() for k, s in policy.action_spec.items()},
        "observation_spec": {k: s.to_dict() for k, s in policy.observation_spec.items()},
        "checkpoint": {name: content[0] for name, content in files.items()},
        "files": files,
        "connection": sorted(policy.connection),
    }


def make_policy(model: dict[str, Any]) -> Policy:
    """The policy that the config's model section names, not loaded."""
    policy = build("model", model["target"], {"checkpoint": model.get("checkpoint"), **(model.get("params") or {})})
    if not isinstance(policy, Policy):
        raise ConfigurationError(f"model.target: {model['target']} is no Policy")
    ActionQueue(model["action_ensemble"], model["ema_alpha"])  # each session makes one: wrong values are told now
    return policy


def place_in(run: RunDirectory, plan: Plan, replica: int) -> Place:
    """Where the server of a run listens and publishes."""
    server = plan.server
    return Place(
        host=server["host"],
        port=server["port"],
        run=plan.run,
        replica=replica,
        rendezvous=run.rendezvous(replica),
        stop=run.stop,
        finished=lambda: _finished(run, plan),
        idle=run.idle,
        idle_timeout=server.get("idle_timeout"),
    )


def _finished(run: RunDirectory, plan: Plan) -> bool:
    if plan.sharding == "elastic":
        return run.all_finished(plan.leases).exists()
    return run.finished_shards(plan.name, plan.shards) == plan.shards


def _serve(model: dict[str, Any], server: dict[str, Any], place: Place) -> None:
    policy = make_policy(model)

    def announce(found: Rendezvous) -> None:
        # Into a log of the run goes no token; to the person who started a server by hand it is the answer.
        query = f"/?token={quote(found.token, safe='')}" if place.rendezvous is None else ""
        print(f"ready {found.urls[0]}{query}", flush=True)

    async def run() -> None:
        await PolicyServer(model["name"], policy, model, place).run(announce)

    asyncio.run(run())


if __name__ == "__main__":
    status = main()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    # Not sys.exit: Python would wait for the policy's thread, and one that loads or predicts cannot be interrupted.
    os._exit(status)
