"""MLflow."""

from __future__ import annotations

import os

from vlaeval_hpc.results.tracking.record import Record, Settings

TAG = "vlaeval_hpc.id"


def log(settings: Settings, record: Record) -> None:
    """Take up the run that bears this id as a tag, or begin it; MLflow gives ids of its own."""
    from mlflow.entities import Metric, Param
    from mlflow.tracking import MlflowClient
    from mlflow.utils.time import get_current_time_millis

    uri = settings.uri
    if settings.offline:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # which it wants to hear since 3.14
        uri = (record.folder.parent / "mlruns").as_uri()
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(settings.project)
    where = experiment.experiment_id if experiment else client.create_experiment(settings.project)
    known = client.search_runs([where], f"tags.`{TAG}` = '{record.id}'", max_results=1)
    run = known[0] if known else client.create_run(where, run_name=record.name, tags={TAG: record.id})
    now = get_current_time_millis()
    kept = run.data.params  # which cannot be changed
    client.log_batch(
        run.info.run_id,
        metrics=[Metric(name, value, now, record.step) for name, value in record.metrics.items()],
        params=[Param(name, str(value)) for name, value in record.config.items() if name not in kept],
    )
    client.set_tag(run.info.run_id, "group", record.group)
    client.set_terminated(run.info.run_id)
