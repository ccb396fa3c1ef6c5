"""Memory is flat: what a few thousand mixed requests leave behind is nothing. benchmarks/day.py does it for longer."""

from pathlib import Path

import pytest

from tests.rigs.bystander import resident_bytes
from tests.rigs.day import day
from tests.rigs.polling import wait_until
from tests.rigs.server import server

pytestmark = pytest.mark.integration
WARM, MEASURED = 1500, 4000  # requests
GROWTH_BYTES = 24 << 20  # over them: malloc's own unevenness, and the cache until it is full


def test_mixed_requests_leave_nothing_behind(tmp_path: Path, tiny_store: Path) -> None:
    settings = {
        "MODEL_API_EFS_ROOT": tiny_store,
        "MODEL_API_MODELS": "tiny",
        "MODEL_API_CACHE": "memory",
        "MODEL_API_CACHE_BYTES": 2**20,  # full after a moment
        "MODEL_API_LOG_LEVEL": "WARNING",
    }
    with server(tmp_path, **settings) as api:
        api.wait_until_ready()
        (web,) = api.pids_by_role()["web"]
        files = Path(f"/proc/{web}/fd")
        with day(api) as seen:
            wait_until(lambda: seen.statuses.total() >= WARM, within_s=300)
            before = resident_bytes(web)
            wait_until(lambda: seen.statuses.total() >= WARM + MEASURED, within_s=600)
            after = resident_bytes(web)
        assert after - before < GROWTH_BYTES, f"{before >> 20} MB, then {after >> 20}"
        assert set(seen.statuses) <= {200, 404, 422}, seen.statuses
        open_files = len(list(files.iterdir()))
        wait_until(lambda: len(list(files.iterdir())) <= max(open_files, 60), within_s=30)
        assert api.pids_by_role()["web"] == [web]
