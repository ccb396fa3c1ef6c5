"""Workers killed at random: each job has one result, the right one. `python -m benchmarks.jobs.soak` goes on longer."""

from pathlib import Path

from benchmarks.jobs.soak import soak


def test_no_job_is_lost_or_answered_wrongly(tmp_path: Path) -> None:
    told = soak(tmp_path, n_jobs=150, n_workers=2, kill_every_s=0.7)
    assert told["jobs"] == 150
    assert told["workers_killed"] >= 1
