"""What docs/video.md shows, done letter by letter."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model_api.compute.video.config import KINDS
from model_api.compute.video.decoding import MAX_PIXELS, MAX_SIDE
from model_api.processes import video_child, video_frames
from model_api.repository.known_tasks import TASKS
from tests.documents.test_jobs import as_shown
from tests.needs import needs_package
from tests.rigs.author import Author
from tests.rigs.polling import wait_until
from tests.rigs.project import ROOT
from tests.rigs.server import Server, server
from tests.rigs.videos import moving_square, small_video_model

PATHS = {"PATH": os.environ.get("PATH", os.defpath)}
PAGE = (ROOT / "docs" / "video.md").read_text()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    needs_package("av")
    author = Author(tmp_path_factory.mktemp("store"))
    author.publish(small_video_model(tmp_path_factory.mktemp("judge")), "judge", task=None, score_factor=17.0)
    with server(tmp_path_factory.mktemp("server"), MODEL_API_EFS_ROOT=author.layout.root) as api:
        api.wait_until_ready()
        yield api


def plain(got: Any, shown: Any) -> Any:
    """Numbers that are shown as … count as any text."""
    if isinstance(shown, dict) and isinstance(got, dict):
        return {key: plain(value, shown.get(key)) for key, value in got.items()}
    if isinstance(shown, list) and isinstance(got, list) and len(got) == len(shown):
        return [plain(*pair) for pair in zip(got, shown, strict=True)]
    return str(got) if shown == "…" and isinstance(got, int | float) else got


@pytest.mark.integration
def test_the_curls_answer_as_shown(api: Server, tmp_path: Path) -> None:
    from scripts.training.diving.encoding import encode

    (tmp_path / "dive.mp4").write_bytes(encode(moving_square(40)))
    known: dict[str, str] = {}

    def run(command: str) -> Any:
        moved = command.replace("http://127.0.0.1:8000", api.url)
        quiet = re.sub(r"^curl ", "curl --silent --fail ", moved)
        done = subprocess.run(
            ["bash", "-c", quiet], capture_output=True, text=True, check=True, cwd=tmp_path, env={**known, **PATHS}
        )  # fmt: skip
        return json.loads(done.stdout)

    blocks = re.findall(r"```\n(curl .*?)\n```(?:\n```json\n(.*?)\n```)?", PAGE, re.DOTALL)
    assert len(blocks) == 5
    for commands, text in blocks:
        for command in commands.split("\n"):
            got = run(command)
            for name, field in (("URL", "url"), ("JOB", "job"), ("URL", "uploadURL"), ("KEY", "Key")):
                if isinstance(got, dict) and field in got:
                    known[name] = got[field]
        if text:
            shown = json.loads(text)
            assert as_shown(plain(got, shown), shown) == shown
    score = wait_until(lambda: run(f'curl "http://127.0.0.1:8000/fetch?x={known["KEY"]}"'), within_s=60)
    assert isinstance(score, int)


def test_its_figures_are_those_of_the_code() -> None:
    words = " ".join(PAGE.split())
    assert f"{MAX_SIDE} a side" in words
    assert f"{MAX_PIXELS / 1e6:.1f} million" in words
    assert f"{video_child.MAX_MEMORY_BYTES // 2**30} GiB of address space" in words
    assert f"{video_child.MAX_CPU_S} s of processor time" in words
    assert f"{video_frames.MAX_WALL_S:g} s" in words
    options = set(re.findall(r"^\| `(\w+)` \|", PAGE.split("The manifest's options")[1].split("##")[0], re.MULTILINE))
    assert {*TASKS["video-regression"].own_options, "precision"} == options
    networks = PAGE.split("The config names the network")[1].split("The manifest's options")[0]
    kinds = set(re.findall(r"^\| `(\w+)` \|", networks, re.MULTILINE))
    assert kinds - {"model_type"} == set(KINDS)
