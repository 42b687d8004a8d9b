"""Weights & Biases."""

from __future__ import annotations

from vlaeval_hpc.results.tracking.record import Record, Settings


def log(settings: Settings, record: Record) -> None:
    """Take up the run of this id, or begin it. Offline, each merge leaves a folder in RUN/wandb, all of one id."""
    import wandb

    run = wandb.init(
        project=settings.project,
        entity=settings.entity,
        id=record.id,
        resume="allow",
        name=record.name,
        group=record.group,
        config=record.config,
        dir=str(record.folder),
        mode="offline" if settings.offline else "online",
        settings=wandb.Settings(silent=True, console="off"),
    )
    # The training step as a metric of its own: wandb's step only ever grows.
    run.define_metric("training_step", hidden=True)
    run.define_metric("*", step_metric="training_step")
    run.log({**record.metrics, "training_step": record.step})
    run.finish()
