"""The judge of dives: what is drawn, what it learns from, and how it is judged itself."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from model_api.compute.video.clips import CLIP_FRAMES
from scripts.training.diving.dataset import TARGETS, make, targets
from scripts.training.diving.drawing import draw_capsule
from scripts.training.diving.judging import TARGET_REFUSED, TARGET_SPEARMAN, ranks, spearman
from scripts.training.diving.scenes import HARD_NEGATIVES, Faults, draw_dive, draw_other, draw_videos
from tests.needs import needs_package
from tests.rigs.project import ROOT

SHIPPED = ROOT / "scripts" / "training" / "diving" / "model"


def test_faults_cost_marks_and_difficulty_gives_some() -> None:
    clean = Faults(0, 0, 0, 3.5)
    assert clean.mark == pytest.approx(100)
    for fault in ({"lean": 1.0}, {"splash": 1.0}, {"parting": 1.0}, {"somersaults": 1.5}):
        assert Faults(**{**vars(clean), **fault}).mark < clean.mark - 15
    assert Faults(1, 1, 1, 1.5).mark >= 0


def test_the_same_seed_draws_the_same_and_a_kind_is_what_it_says() -> None:
    first, again = (list(draw_videos(3, 2, 2)) for _ in range(2))
    assert [drawn.kind for _, drawn in first] == [drawn.kind for _, drawn in again]
    assert all(np.array_equal(a.frames, b.frames) for (_, a), (_, b) in zip(first, again, strict=True))
    (number, last), *_ = draw_videos(3, 2, 2, begin=3)
    assert number == 3
    assert np.array_equal(last.frames, first[3][1].frames)


@pytest.mark.parametrize("kind", HARD_NEGATIVES)
def test_what_is_no_dive_has_no_mark(kind: str) -> None:
    drawn = draw_other(np.random.default_rng(1), kind)
    assert (drawn.kind, drawn.faults) == (kind, None)
    assert drawn.frames.shape[1:] == (128, 172, 3)
    assert len(drawn.frames) >= CLIP_FRAMES
    moves = np.abs(np.diff(drawn.frames.astype(int), axis=0)).mean()
    assert moves == 0 if kind == "still" else moves > 0


def test_a_splash_is_as_white_as_its_size() -> None:
    """What a mark is taken off for is to be seen: the white above the water after the entry grows with the splash."""
    sizes, whites = [], []
    for seed in range(12):
        drawn = draw_dive(np.random.default_rng(seed))
        assert drawn.faults is not None
        shown = drawn.frames[drawn.entry + 4 : drawn.entry + 10].astype(int)
        sizes.append(drawn.faults.splash)
        whites.append(((shown.min(axis=-1) > 200) & (np.ptp(shown, axis=-1) < 40)).mean())
    assert spearman(np.array(sizes), np.array(whites)) > 0.6


def test_a_clip_is_asked_only_for_what_it_shows(tmp_path: Path) -> None:
    needs_package("av")
    videos = make(tmp_path / "few.frames", 5, 2, 1, (96, 128), lambda line: None)
    dive = next(video for video in videos.videos if video.faults is not None)
    values, at_start = targets(dive, 0)
    _, at_end = targets(dive, dive.n_frames - CLIP_FRAMES)
    assert len(values) == len(TARGETS)
    assert (at_start[TARGETS.index("splash")], at_end[TARGETS.index("splash")]) == (0.0, 1.0)
    assert at_start[TARGETS.index("parting")] == 1.0
    again = make(tmp_path / "few.frames", 5, 2, 1, (96, 128), lambda line: None)  # taken up, not drawn again
    assert [(v.kind, v.n_frames) for v in again.videos] == [(v.kind, v.n_frames) for v in videos.videos]
    assert np.array_equal(again.frames(1), videos.frames(1))


def test_drawing_stays_within_the_picture() -> None:
    picture = np.zeros((32, 40, 3), np.float32)
    draw_capsule(picture, (0.5, 0.5), (0.5, 0.5), 0.25, (200.0, 100.0, 50.0))
    assert picture[16, 16].tolist() == [200, 100, 50]
    assert picture[16, 16 + 10].sum() == 0
    for end in ((-9.0, 0.5), (9.0, 9.0), (0.5, -4.0)):
        draw_capsule(picture, end, (end[0] + 0.1, end[1]), 0.2, (1.0, 1.0, 1.0))
    assert picture[:4].sum() == 0


def test_ranks_share_their_places() -> None:
    assert ranks(np.array([5, 1, 5, 9])).tolist() == [2.5, 1, 2.5, 4]
    assert spearman(np.array([1, 2, 3, 4]), np.array([2, 4, 8, 16])) == pytest.approx(1)
    assert spearman(np.array([1, 2, 3, 4]), np.array([4, 3, 2, 1])) == pytest.approx(-1)


def test_what_is_shipped_reached_its_targets_and_is_small() -> None:
    run = json.loads((SHIPPED.parent / "run.json").read_text())
    metrics = run["metrics"]
    assert run["targets_reached"]
    assert metrics["spearman"] >= TARGET_SPEARMAN
    assert metrics["wrong_content_refused"] >= TARGET_REFUSED
    assert set(metrics["refused_by_kind"]) == set(HARD_NEGATIVES)
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) <= 5_000_000


@pytest.mark.integration
def test_the_shipped_model_judges_dives_that_nobody_drew_before() -> None:
    """Through files, the sandboxed decoder and the network as it serves, on seeds that training never used."""
    needs_package("av")
    from model_api.compute.video.clips import cut_clips, spread_clip
    from model_api.compute.video.judge import VideoJudge
    from model_api.processes.video_frames import frames_of
    from scripts.training.diving.encoding import encode
    from tests.rigs.videos import as_file

    judge, _ = VideoJudge.load(SHIPPED, "auto")
    marks, guesses, refused, accepted = [], [], [], []
    for _, drawn in draw_videos(987, 45, 36, 192, 256):
        with as_file(encode(drawn.frames, "mp4", crf="24")) as file:
            frames = np.stack(list(frames_of(file)))
        *rows, glance = judge.rows([*cut_clips(frames), spread_clip(frames)])
        is_dive = glance[judge.n_features] >= 0.5
        if drawn.faults is None:
            refused.append(not is_dive)
        else:
            accepted.append(is_dive)
            marks.append(drawn.faults.mark)
            guesses.append(float(judge.prediction(np.mean([row[: judge.n_features] for row in rows], axis=0))[0]))
    assert spearman(np.array(marks), np.array(guesses)) > 0.7  # of 45; what it reaches on more is in run.json
    assert np.mean(refused) > 0.85
    assert np.mean(accepted) > 0.85


@pytest.mark.integration
def test_a_short_training_run_makes_a_folder_and_says_that_it_is_not_good_enough(tmp_path: Path) -> None:
    needs_package("av")
    command = [sys.executable, "-m", "scripts.training.diving", "--out", str(tmp_path), "--minutes", "0.02"]
    few = ["--dives", "8", "--others", "9", "--held-out", "9", "--check", "9"]
    done = subprocess.run([*command, *few], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["recipe"]["dives"] == 8
    assert set(run["metrics"]) >= {"spearman", "wrong_content_refused", "dives_accepted"}
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"config.json", "model.safetensors"}
    assert run["targets_reached"] is False
    assert "targets not reached" in done.stdout
    more = subprocess.run(
        [*command, *few, "--begin", str(tmp_path / "model")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert more.returncode == 0, more.stderr


def test_an_encoded_video_decodes_to_as_many_frames() -> None:
    needs_package("av")
    from model_api.compute.video.decoding import read_frames
    from scripts.training.diving.encoding import encode

    frames = draw_dive(np.random.default_rng(2), 96, 128).frames
    assert len(list(read_frames(io.BytesIO(encode(frames))))) == len(frames)
