"""/metrics is text that Prometheus takes."""

from __future__ import annotations

from tests.serving.exposition import parse
from vlaeval_hpc.serving.metrics import Metrics


def test_a_fresh_page_has_everything_at_zero() -> None:
    families = parse(Metrics().text())
    assert {name for name, f in families.items() if f.kind == "gauge"} == {
        "vlaeval_hpc_sessions",
        "vlaeval_hpc_episodes_running",
        "vlaeval_hpc_waiting",
    }
    assert all(value == 0 for f in families.values() for value in f.samples.values())


def test_histograms_are_cumulative() -> None:
    metrics = Metrics()
    for size in (1, 1, 2, 3, 8, 9, 500):
        metrics.batch_size.observe(size)
    metrics.predict_seconds.observe(0.0305)
    metrics.observations += 7
    families = parse(metrics.text())
    sizes = families["vlaeval_hpc_batch_size"].samples
    assert sizes['vlaeval_hpc_batch_size_bucket{le="1"}'] == 2
    assert sizes['vlaeval_hpc_batch_size_bucket{le="8"}'] == 5
    assert sizes['vlaeval_hpc_batch_size_bucket{le="16"}'] == 6
    assert sizes['vlaeval_hpc_batch_size_bucket{le="+Inf"}'] == sizes["vlaeval_hpc_batch_size_count"] == 7
    assert sizes["vlaeval_hpc_batch_size_sum"] == 524
    seconds = families["vlaeval_hpc_predict_seconds"].samples
    assert seconds['vlaeval_hpc_predict_seconds_bucket{le="0.03"}'] == 0
    assert seconds['vlaeval_hpc_predict_seconds_bucket{le="0.1"}'] == 1
    assert families["vlaeval_hpc_observations_total"].samples["vlaeval_hpc_observations_total"] == 7
