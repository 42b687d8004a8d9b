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
  python -m vlaeval_hpc status|logs|scale|cancel|resume  a run under way
  python -m vlaeval_hpc prepare|serve|shard|merge    its parts, by hand
  python -m vlaeval_hpc compare RUN RUN...           who is better, and how sure that is
  python -m vlaeval_hpc browse|report|query          all results: in a terminal, as pages, in SQL
  python -m vlaeval_hpc check                        whether an adapter keeps what it promises
  python -m vlaeval_hpc doctor                       what is missing here; each verb has its --help

Examples
  python -m vlaeval_hpc                   the same as model=bc benchmark=metaworld cluster=local
  python -m vlaeval_hpc cluster=slurm cluster.server.partition=gpu cluster.shards=32
  python -m vlaeval_hpc benchmark.tasks='[reach-v3]' benchmark.episodes_per_task=50
  python -m vlaeval_hpc model.checkpoint=30,300,3000 -m
  python -m vlaeval_hpc 'model.checkpoint=glob(runs/x/checkpoints/*)' sweep.stop=early -m
  python -m vlaeval_hpc run benchmark=libero server.url=ws://gpu01:8000

Often given
  model= benchmark= cluster=        which; model.checkpoint=, benchmark.params.suite= are theirs
  benchmark.tasks= .max_tasks= .episodes_per_task= .max_steps= .seed=
  cluster.shards= .cpus=0-7 .gpus=0,1     here; container=apptainer: simulators in containers
  results=FOLDER run=NAME           where; the same again resumes: nothing finished is run twice

Options
  -m, --multirun      sweep                    --cfg job              show the composed config
  --dry-run           show the jobs' scripts, submit nothing
  --config-dir DIR    add your own configs     --hydra-help, --info   Hydra's
  -v                  show the traceback of an error
"""

_SERVE = """\
Start a policy server, and print `ready URL` once it can answer.

  python -m vlaeval_hpc serve [key=value ...]   a server by itself, for any client of the protocol
  python -m vlaeval_hpc serve RUN [--replica N] the server of a run directory, found by its shards

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

  python -m vlaeval_hpc merge RUN|SWEEP [--json]
  python -m vlaeval_hpc merge FILES... -o OUT.json [--json]

  -o, --output OUT.json    where the merge of single files, ours or vla-eval's, goes; OUT.csv too
  --json                   print the merged result as JSON

Example
  python -m vlaeval_hpc merge results/a/shards/*.json -o merged.json
"""

_STATUS = """\
Tell how far a run is: from its files, and of its jobs what Slurm says in one call.

  python -m vlaeval_hpc status RUN|SWEEP [--watch] [--json]

  -w, --watch    again and again, until nothing runs any more
  --json         for a script

Example
  python -m vlaeval_hpc status results/bc-3000_metaworld_bc5_1f2e3d4c
"""

_PREPARE = """\
Make and fetch what an evaluation needs, so that its jobs need no network: environments,
images, checkpoints by hub name. The main command does it too, for what is missing.

  python -m vlaeval_hpc prepare [key=value ...]

Examples
  python -m vlaeval_hpc prepare benchmark=libero container=apptainer
  srun --time 1:00:00 python -m vlaeval_hpc prepare benchmark=libero cluster=slurm
"""

_CANCEL = """\
Cancel all jobs of a run: the merge, the shards, the server. What is finished stays finished.

  python -m vlaeval_hpc cancel RUN|SWEEP

Example
  python -m vlaeval_hpc cancel results/bc-3000_metaworld_bc5_1f2e3d4c
"""

_SCALE = """\
Bring a run on Slurm to so many shards while it goes on (sharding=elastic).

  python -m vlaeval_hpc scale RUN N

Examples
  python -m vlaeval_hpc scale results/bc-3000_metaworld_bc5_1f2e3d4c 64
"""

_RESUME = """\
Start again what is open of a run, where it was started before: here, or as jobs.

  python -m vlaeval_hpc resume RUN|SWEEP [key=value ...]

  key=value    what is to be different this time, of cluster and server above all

Examples
  python -m vlaeval_hpc resume results/bc-3000_metaworld_bc5_1f2e3d4c
  python -m vlaeval_hpc resume results/bc-3000_metaworld_bc5_1f2e3d4c cluster.sbatch.exclude=node7
"""

_DOCTOR = """\
Try out what an evaluation needs of this machine and its cluster; say what to do about what is
missing. Nothing is changed or submitted. Exit status 1 where there is a problem.

  python -m vlaeval_hpc doctor [--results FOLDER] [--json]

  --results FOLDER    where results would go (default: results)
  --json              for a script: [{name, state, found, advice}]

Examples
  python -m vlaeval_hpc doctor --results /scratch/me/results
  srun --partition gpu --gres gpu:1 python -m vlaeval_hpc doctor
"""

_CHECK = """\
Check whether a benchmark's and a policy's adapter keep what they promise, in their environments:
equal episodes in every process, after every other, however often they are looked at; actions that
do not depend on who else is asked about; what the specs say. Also speed and memory.

  python -m vlaeval_hpc check [model=...] benchmark=... [key=value ...] [--steps N] [--json]

  --steps N    of random actions in an episode (default: 24)
  --json       for a script: [{name, state, found}]

Without model= the benchmark alone. Exit status 1 where a check failed.

Examples
  python -m vlaeval_hpc check benchmark=libero
  python -m vlaeval_hpc check model=bc benchmark=metaworld
"""

_LOGS = """\
Show the ends of a run's logs: what went wrong first, then the server's and the latest shard's.

  python -m vlaeval_hpc logs RUN [server|shard|merge] [N] [-n LINES] [-f]

  N                   which replica or shard; default: the one that wrote last
  -n, --lines LINES   how many of each (default: 20)
  -f, --follow        and what is added, until the run is complete or Ctrl-C

Examples
  python -m vlaeval_hpc logs results/bc-3000_metaworld_bc5_1f2e3d4c
  python -m vlaeval_hpc logs results/bc-3000_metaworld_bc5_1f2e3d4c shard 3 -n 100
"""

_COMPARE = """\
Compare runs of the same benchmark over the same episodes: who is better, by how much, how sure.

  python -m vlaeval_hpc compare RUN RUN... [--baseline NAME] [--flips] [--json]

RUN is a run directory or a merged.json, ours or vla-eval's; the first is the baseline. Runs that
do not pair (benchmark, tasks, seed, parameters, step limit) are refused.

  --baseline NAME         another baseline
  --metric NAME           a graded metric, by its mean; default: success
  --flips                 list the episodes that only one of a pair won
  --json                  for a script; rates and differences as fractions
  --min-difference M      points that a run must be above the baseline; default: 0, and -2 is
                          content with 2 points less; of a graded metric in its own units
  --alpha A               how often a verdict may be wrong, over all runs; default: 0.05

Exit status: 0 all better than the baseline + M, 1 inconclusive, 2 cannot be compared, 3 one is
worse. Of other metrics than success: 0 higher, 3 lower.

Examples
  python -m vlaeval_hpc compare results/bc-1000_metaworld_bc5_* results/bc-3000_metaworld_bc5_*
  python -m vlaeval_hpc compare results/base results/new --min-difference -2 && echo no worse
"""

_BROWSE = """\
Browse the runs and sweeps under a results root, in this terminal: state, rate and interval, age,
owner; a run's tasks, its episodes, an episode's failure and log; two runs compared.

  python -m vlaeval_hpc browse [RESULTS]

RESULTS is a folder that holds runs at any depth; default: results. Nothing is written there: what
was found is kept in the user's cache, so that the next look is quick.

  enter, escape   open, back        /   filter by words      s   sort
  space, c        mark, compare     p   a run's provenance   q   quit

Example
  python -m vlaeval_hpc browse /scratch/project/results
"""

_QUERY = """\
Ask all episodes and runs under a results root in SQL (DuckDB's); nothing is written.

  python -m vlaeval_hpc query RESULTS SQL [--json | --csv]

  episodes   run, model, checkpoint, benchmark, task, episode_id, seed, success, steps, elapsed_sec,
             failure_reason, attempts, started_at, finished_at, host, shard, metrics['NAME']
  runs       run, state, model, checkpoint, benchmark, planned, finished, errors, metric, n, mean,
             low, high, owner, created_at, changed_at, merged

Examples
  python -m vlaeval_hpc query results "select task, avg(success) from episodes group by task"
  python -m vlaeval_hpc query results "from runs where state <> 'done'" --csv
"""

_WATCH = """\
Follow a training run's checkpoint folder, and evaluate each checkpoint once it is complete.

  python -m vlaeval_hpc watch FOLDER [key=value ...] [--until-idle SECONDS]

  --until-idle S    end when nothing has changed for so long; default: Ctrl-C ends it
  --every S         how often to look (default: 30)
  --pattern GLOB    which entries are checkpoints (default: *)
  --ready NAME      a checkpoint is complete when it has a file NAME in it, or beside it as
                    CHECKPOINT + NAME; default: when two looks find it unchanged
  --config-dir DIR  add your own configs

All become points of one sweep in results/sweeps. The same again goes on: none is evaluated twice.

Examples
  python -m vlaeval_hpc watch runs/x/checkpoints model=bc benchmark=metaworld --until-idle 3600
  python -m vlaeval_hpc watch runs/x/checkpoints --pattern '*/pretrained_model' cluster=slurm
"""

_REPORT = """\
Write a page to look at: one file of HTML that needs no server and no network.

  python -m vlaeval_hpc report RUN [--against RUN] [-o OUT.html]
  python -m vlaeval_hpc report SWEEP|ROOT [-o OUT.html]

  --against RUN           what differs from another run, and by how much it is better
  -o, --output OUT.html   default: report.html in a run, sweep.html in a sweep, index.html in a
                          results root, which links what lies under it

Examples
  python -m vlaeval_hpc report results/new --against results/base -o new.html
  python -m vlaeval_hpc report results
"""

_REPRODUCE = """\
Print the command that made a run, and what is not as it was: checkpoint hash, versions, image
digests, config.

  python -m vlaeval_hpc reproduce RUN [--run | --json]

  --run     do it, into a run directory beside it, RUN_again, and compare the outcomes
  --json    for a script: {command, folder, differences: [{what, then, now}]}

Exit status: 0 all is as it was (--run: and every episode came out the same), 1 something is not.

Example
  python -m vlaeval_hpc reproduce results/bc-3000_metaworld_bc5_1f2e3d4c --run
"""

_TUNE = """\
Measure how fast simulators step, by number of shards, and the policy answers, by batch size, and
say which settings that makes. It takes some minutes of this machine, which should be idle.

  python -m vlaeval_hpc tune [key=value ...] [-o FOLDER] [--seconds S] [--json]

  -o, --output FOLDER   write the settings, to be given by --config-dir FOLDER +tuned=NAME, and a
                        page with a plot of both curves, NAME.html
  --seconds S           how long each value is measured (default: 5)
  --json                for a script

With cluster=slurm, shards are taken to have CPUs like this machine's; cluster.shards is how many.

Example
  python -m vlaeval_hpc tune model=oft benchmark=libero -o tuning
"""

_EXPORT = """\
Make a LeRobot dataset (version 3.0) of a run's recorded episodes: a folder to train on.

  python -m vlaeval_hpc export RUN -o FOLDER [--only success|failure]

The run was made with recording.steps=true; with recording=video as well the dataset has frames.

Example
  python -m vlaeval_hpc recording=video recording.steps=true run=shown
  python -m vlaeval_hpc export results/shown -o datasets/shown --only success
"""

VERBS = {
    "run": Verb("run", _RUN),
    "serve": Verb("serve", _SERVE),
    "shard": Verb("shard", _SHARD),
    "merge": Verb("merge", _MERGE),
    "status": Verb("status", _STATUS),
    "prepare": Verb("prepare", _PREPARE),
    "logs": Verb("logs", _LOGS),
    "cancel": Verb("cancel", _CANCEL),
    "scale": Verb("scale", _SCALE),
    "resume": Verb("resume", _RESUME),
    "compare": Verb("compare", _COMPARE),
    "watch": Verb("watch", _WATCH),
    "reproduce": Verb("reproduce", _REPRODUCE),
    "tune": Verb("tune", _TUNE),
    "doctor": Verb("doctor", _DOCTOR),
    "check": Verb("check", _CHECK),
    "browse": Verb("browse", _BROWSE),
    "query": Verb("query", _QUERY),
    "report": Verb("report", _REPORT),
    "export": Verb("export", _EXPORT),
}


def main(argv: list[str] | None = None) -> int:
    """Run a verb; the exit status: 0 done, 1 work left open, 2 a wrong configuration, 3 a run compared
    as worse, 130 interrupted."""
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
