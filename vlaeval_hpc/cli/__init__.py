"""The command line: one word chooses a verb, `run` where there is none."""

from __future__ import annotations

import importlib
import os
import sys
from typing import NamedTuple

from vlaeval_hpc.errors import VlaevalError


class Verb(NamedTuple):
    """A verb's module in this package, and its help."""

    module: str
    help: str


_RUN = """\
Evaluate policies on simulation benchmarks.

  python -m vlaeval_hpc [run] [key=value ...]        evaluate one policy on one benchmark
  python -m vlaeval_hpc ... key=a,b,c -m             a sweep: one run a point, one table at the end
  python -m vlaeval_hpc serve|shard|merge|status     its parts, by hand; each has its own --help

Examples
  python -m vlaeval_hpc                   the same as model=bc benchmark=metaworld cluster=local
  python -m vlaeval_hpc benchmark.tasks='[reach-v3]' benchmark.episodes_per_task=50
  python -m vlaeval_hpc model.checkpoint=30,300,3000 -m
  python -m vlaeval_hpc run benchmark=libero server.url=ws://gpu01:8000

Often given
  model= benchmark= cluster=        which; model.checkpoint=, benchmark.params.suite= are theirs
  benchmark.tasks= .max_tasks= .episodes_per_task= .max_steps= .seed=
  cluster.shards= .cpus=0-7 .gpus=0,1
  results=FOLDER run=NAME           where; the same again resumes: nothing finished is run twice

Options
  -m, --multirun      sweep                    --cfg job              show the composed config
  --config-dir DIR    add your own configs     --hydra-help, --info   Hydra's
  -v                  show the traceback of an error
"""

_SERVE = """\
Start a policy server, and print `ready URL` once it can answer.

  python -m vlaeval_hpc serve [key=value ...]   a server by itself, for any client of the protocol
  python -m vlaeval_hpc serve RUN               the server of a run directory, found by its shards

Examples
  python -m vlaeval_hpc serve model=bc server.port=8000
  python -m vlaeval_hpc serve model=bc model.checkpoint=300 server.host=0.0.0.0

The token is made anew, or taken from VLAEVAL_HPC_TOKEN. GET /health, /metrics and /config
are answered too.
"""

_SHARD = """\
Run one shard of a run directory, as a job array's task does; what is finished is not run again.

  python -m vlaeval_hpc shard RUN [--shard-id N]

  --shard-id N    which; default: SLURM_ARRAY_TASK_ID

Example
  python -m vlaeval_hpc shard results/bc-3000_metaworld_bc5_1f2e3d4c --shard-id 0
"""

_MERGE = """\
Merge what is finished into merged.json and merged.csv, and print the table.

  python -m vlaeval_hpc merge RUN [--json]
  python -m vlaeval_hpc merge FILES... -o OUT.json [--json]

  -o, --output OUT.json    where the merge of single files, ours or vla-eval's, goes; OUT.csv too
  --json                   print the merged result as JSON

Example
  python -m vlaeval_hpc merge results/a/shards/*.json -o merged.json
"""

_STATUS = """\
Tell how far a run is, from its files alone.

  python -m vlaeval_hpc status RUN [--json]

Example
  python -m vlaeval_hpc status results/bc-3000_metaworld_bc5_1f2e3d4c
"""

VERBS = {
    "run": Verb("run", _RUN),
    "serve": Verb("serve", _SERVE),
    "shard": Verb("shard", _SHARD),
    "merge": Verb("merge", _MERGE),
    "status": Verb("status", _STATUS),
}


def main(argv: list[str] | None = None) -> int:
    """Run a verb; the exit status: 0 done, 1 work left open, 2 a wrong configuration, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments.pop(0) if arguments and arguments[0] in VERBS else "run"
    verb = VERBS[name]
    if {"-h", "--help"} & set(arguments):
        print(verb.help, end="")
        return 0
    verbose = "-v" in arguments
    arguments = [a for a in arguments if a != "-v"]
    try:
        status: int = importlib.import_module(f"vlaeval_hpc.cli.{verb.module}").main(arguments)
        return status
    except VlaevalError as error:
        if verbose:
            raise
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output, `head` say, has enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
