"""Trackio."""

from __future__ import annotations

import os

from vlaeval_hpc.results.tracking.record import Record, Settings


def log(settings: Settings, record: Record) -> None:
    """Take up the run of this name, or begin it: Trackio knows runs by their names."""
    if settings.offline:
        os.environ["TRACKIO_DIR"] = str(record.folder.parent / "trackio")  # before it is imported
    import trackio

    run = trackio.init(
        project=settings.project,
        name=f"{record.name}-{record.id}",
        group=record.group,
        config=record.config,
        space_id=None if settings.offline else settings.uri,
        resume="allow",
        embed=False,
    )
    run.log(dict(record.metrics), step=record.step)
    run.finish()
