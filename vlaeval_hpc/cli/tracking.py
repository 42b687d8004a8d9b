"""`tracking=...`: what a merge tells an experiment tracker."""

from __future__ import annotations

from rich.console import Console

from vlaeval_hpc.config.composition import from_yaml
from vlaeval_hpc.config.sweep import training_steps
from vlaeval_hpc.results.merge import Merged
from vlaeval_hpc.run.directory import RunDirectory


def track(run: RunDirectory, merged: Merged, console: Console) -> None:
    """Tell the tracker of the run's config, if it names one. Whatever goes wrong is said, and harms no merge."""
    if not run.config.exists():
        return
    try:
        config = from_yaml(run.config)
        if config.tracking.name == "none":
            return
        from vlaeval_hpc.results.tracking.record import Settings, check_tracker, log, record_of

        check_tracker(config.tracking.name)
        checkpoint = config.model.checkpoint
        step = training_steps([str(checkpoint)])[0] if checkpoint is not None else None
        chosen = config.tracking
        settings = Settings(chosen.project, chosen.entity, chosen.uri, chosen.offline)
        log(chosen.name, settings, record_of(run, merged, step))
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        console.print(f"warning: tracking: {text}: the merge itself is done", markup=False, soft_wrap=True)
