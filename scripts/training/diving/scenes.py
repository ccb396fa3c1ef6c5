"""Dives with known faults and their marks, and scenes that are no dive but look like one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scripts.training.diving.drawing import (
    Figure,
    Picture,
    Pose,
    Scene,
    draw_capsule,
    draw_figure,
    draw_splash,
    finish,
    make_scene,
)

Frames = npt.NDArray[np.uint8]
MAX_LEAN = np.radians(40)
HARD_NEGATIVES = (
    "gymnast", "jump", "backwards", "ball", "swimmer", "runner", "still", "pool", "shapes",
)  # fmt: skip


@dataclass(frozen=True)
class Faults:
    """What a judge takes off for, 0 (none) to 1 each, and how often the diver turned."""

    lean: float
    """Away from upright at the entry, of 40 degrees."""
    splash: float
    parting: float
    """Of the legs, of 50 degrees."""
    somersaults: float

    @property
    def mark(self) -> float:
        """0 to 100: ten points less what the faults cost, times the difficulty (0.82 to 1)."""
        points = 10 - 3.2 * self.lean - 3.2 * self.splash - 2.2 * self.parting
        return 10 * points * (0.82 + 0.09 * (self.somersaults - 1.5))


@dataclass(frozen=True)
class Drawn:
    """`entry`: the frame at which the hands meet the water. None of what follows `frames` for what is no dive."""

    frames: Frames
    kind: str
    faults: Faults | None = None
    entry: int = 0


@dataclass(frozen=True)
class View:
    height: int
    width: int
    light: float
    grain: float
    figure: Figure
    facing: int


def _view(random: np.random.Generator, height: int, width: int) -> View:
    skin = random.uniform(0.45, 1.0) * np.array((235, 190, 160))
    figure = Figure(
        float(random.uniform(0.62, 0.78)),
        tuple(skin),
        tuple(random.uniform(10, 220, 3)),
        float(random.uniform(0.85, 1.2)),
    )
    return View(
        height,
        width,
        float(random.uniform(0.75, 1.2)),
        float(random.uniform(0, 6)),
        figure,
        int(random.choice((-1, 1))),
    )


def _rendered(random: np.random.Generator, view: View, scene: Scene, n: int, paint: Callable[[Picture, int], None],
              camera: Callable[[int], tuple[float, float]]) -> Frames:  # fmt: skip
    frames = np.empty((n, view.height, view.width, 3), np.uint8)
    for number in range(n):
        picture = scene.show(camera(number), view.height, view.width)
        paint(picture, number)
        frames[number] = finish(picture, random, view.light, view.grain)
    return frames


def draw_dive(random: np.random.Generator, height: int = 128, width: int = 172, feet_first: bool = False) -> Drawn:
    """A somersault or several, an entry, a splash. `feet_first`: a plain jump instead, which is no dive."""
    view = _view(random, height, width)
    lean = float(random.beta(1.2, 1.8))
    faults = Faults(
        lean,
        float(np.clip(0.1 + 0.55 * lean + random.normal(0, 0.22), 0, 1)),
        float(random.beta(1.1, 1.8)),
        float(random.choice((1.5, 2.5, 3.5))),
    )
    entry, n = int(random.integers(24, 33)), int(random.integers(46, 58))
    middle = view.width / view.height / 2
    drop = float(random.uniform(2.2, 3.2))
    scene = make_scene(random, height, True, drop)
    side = float(random.choice((-1, 1)))
    end = np.pi + side * lean * MAX_LEAN
    turn = 0.0 if feet_first else view.facing * 2 * np.pi * (faults.somersaults - 0.5)
    flexed = (1.9, 2.2) if random.random() < 0.6 else (2.1, 0.0)  # tucked, or piked
    drops = [(float(x), float(y)) for x, y in zip(random.normal(0, 0.55, 26), random.beta(1.3, 1.6, 26), strict=True)]
    drift, wobble = float(random.uniform(-0.25, 0.25)), random.normal(0, 0.006, (n, 2))
    opens = float(random.uniform(0.72, 0.8))

    def fall(number: int) -> float:
        """How far the hip has fallen, in heights: up a little, then down; through the surface with the same speed."""
        t = number / entry
        return (drop - 0.3) * (1.25 * t * t - 0.25 * t)

    def camera(number: int) -> tuple[float, float]:
        low = min(fall(number), drop - 0.12)
        return drift * number / n + float(wobble[number, 0]), low + float(wobble[number, 1])

    def paint(picture: Picture, number: int) -> None:
        t = number / entry
        at = (middle, 0.5 + fall(number) - camera(number)[1])
        surface = scene.floor_y - camera(number)[1] + 0.5
        closed = float(np.clip(min((t - 0.08) / 0.12, (opens - t) / 0.1), 0, 1))
        turned = float(np.clip((t - 0.06) / (opens - 0.02), 0, 1))
        if feet_first:
            angle, pose = side * lean * 0.3, Pose(0.15, 0.2, faults.parting * 0.87, 0.6 + 2 * t)
        else:
            angle = turned * turn + (end if turned >= 1 else end * turned)
            arms = np.pi * (1 - closed) + 0.9 * closed
            pose = Pose(flexed[0] * closed, flexed[1] * closed, faults.parting * 0.87, arms)
        under = picture[max(int(surface * view.height), 0) :].copy()
        draw_figure(picture, at, angle, pose, view.figure, view.facing)
        if 0 <= surface < 1:  # what is below the surface is seen through water
            below = picture[int(surface * view.height) :]
            below += np.float32(0.75) * (under - below)
        age = (number - entry) / 16
        if 0 <= age <= 1.3:
            draw_splash(picture, (middle, surface), faults.splash, min(age, 1.0), drops)

    frames = _rendered(random, view, scene, n, paint, camera)
    return Drawn(frames, "jump") if feet_first else Drawn(frames, "dive", faults, entry)


def draw_other(random: np.random.Generator, kind: str, height: int = 128, width: int = 172) -> Drawn:
    """What is no dive; `kind` is one of HARD_NEGATIVES."""
    if kind == "jump":
        return draw_dive(random, height, width, feet_first=True)
    if kind in ("backwards", "still"):
        dive = draw_dive(random, height, width)
        if kind == "backwards":
            return Drawn(np.ascontiguousarray(dive.frames[::-1]), kind)
        one = dive.frames[int(random.integers(4, len(dive.frames)))]
        return Drawn(np.repeat(one[None], len(dive.frames), axis=0), kind)
    view, n = _view(random, height, width), int(random.integers(40, 60))
    paint, wet, floor_y, speed = _PAINTERS[kind](random, view, n)
    scene = make_scene(random, height, wet, floor_y)
    drift = float(random.uniform(*speed)) * random.choice((-1, 1))
    climb = float(random.uniform(-0.4, 0.4)) if kind == "pool" else 0.0

    def camera(number: int) -> tuple[float, float]:
        height_now = _ball_height(number, n) if kind == "ball" else climb * number / n
        return drift * number / n, height_now

    return Drawn(_rendered(random, view, scene, n, paint, camera), kind)


Painter = tuple[Callable[[Picture, int], None], bool, float, tuple[float, float]]


def _gymnast(random: np.random.Generator, view: View, n: int) -> Painter:
    """Somersaults above a gym's floor, and lands."""
    turns, middle = float(random.choice((1.0, 2.0, 3.0))), view.width / view.height / 2
    lands, parting = random.uniform(0.55, 0.75), float(random.uniform(0, 0.8))

    def paint(picture: Picture, number: int) -> None:
        t = min(number / n / lands, 1.0)
        closed = float(np.clip(min(t / 0.15, (0.9 - t) / 0.1), 0, 1))
        height = 0.5 - 0.18 * float(np.sin(np.pi * t))
        pose = Pose(1.9 * closed, 2.1 * closed, parting, np.pi - 1.6 * closed)
        draw_figure(picture, (middle, height), view.facing * 2 * np.pi * turns * t, pose, view.figure, view.facing)

    return paint, False, 0.3, (0.1, 0.6)


def _ball_height(number: int, n: int) -> float:
    t = min(number / n / 0.6, 1.0)
    return 2.2 * t * t


def _ball(random: np.random.Generator, view: View, n: int) -> Painter:
    """A ball falls into the water, with a splash."""
    middle, radius = view.width / view.height / 2, float(random.uniform(0.07, 0.2))
    colour, size = tuple(random.uniform(20, 240, 3)), float(random.uniform(0.1, 1))
    drops = [(float(x), float(y)) for x, y in zip(random.normal(0, 0.55, 26), random.beta(1.3, 1.6, 26), strict=True)]

    def paint(picture: Picture, number: int) -> None:
        low = _ball_height(number, n)
        surface = 2.4 - low + 0.5
        fallen = number / n - 0.6
        if fallen <= 0.05:
            draw_capsule(picture, (middle, 0.5), (middle, 0.5), radius, colour)
        if fallen > 0:
            draw_splash(picture, (middle, surface), size, min(fallen / 0.35, 1.0), drops)

    return paint, True, 2.4, (0.0, 0.3)


def _swimmer(random: np.random.Generator, view: View, n: int) -> Painter:
    """Somebody swims: level, arms going round."""
    middle, beat = view.width / view.height / 2, float(random.uniform(0.2, 0.5))

    def paint(picture: Picture, number: int) -> None:
        pose = Pose(0.1, 0.2, 0.25 + 0.15 * float(np.sin(number)), number * beat)
        draw_figure(picture, (middle, 0.5), view.facing * 1.5, pose, view.figure, view.facing)
        drops = [(float(x), float(y)) for x, y in random.normal(0, 0.5, (8, 2))]
        draw_splash(picture, (middle + 0.25 * view.facing, 0.52), 0.12, 0.4, drops)

    return paint, True, 0.02, (0.5, 1.5)


def _runner(random: np.random.Generator, view: View, n: int) -> Painter:
    """Somebody runs past, beside a pool or not."""
    middle, step = view.width / view.height / 2, float(random.uniform(0.3, 0.7))

    def paint(picture: Picture, number: int) -> None:
        swing = float(np.sin(number * step))
        pose = Pose(0.2, 0.3 + 0.3 * swing, 1.1 * swing, 0.5 + swing)
        at = (middle, 0.5 + 0.02 * abs(swing))
        draw_figure(picture, at, view.facing * 0.15, pose, view.figure, view.facing)

    return paint, bool(random.random() < 0.5), 0.3, (0.8, 2.0)


def _pool(random: np.random.Generator, view: View, n: int) -> Painter:
    """Nobody, and the camera moves."""
    return (lambda picture, number: None), True, float(random.uniform(-0.2, 0.4)), (0.3, 1.5)


def _shapes(random: np.random.Generator, view: View, n: int) -> Painter:
    """Bars and discs that move about."""
    count = int(random.integers(3, 9))
    places, speeds = random.uniform(0, 1.3, (count, 4)), random.normal(0, 0.02, (count, 4))
    looks = [(float(random.uniform(0.02, 0.15)), tuple(random.uniform(0, 255, 3))) for _ in range(count)]

    def paint(picture: Picture, number: int) -> None:
        for place, (radius, colour) in zip(places + speeds * number, looks, strict=True):
            draw_capsule(picture, (place[0], place[1]), (place[2], place[3]), radius, colour)

    return paint, bool(random.random() < 0.3), 0.2, (0.0, 1.0)


_PAINTERS: dict[str, Callable[[np.random.Generator, View, int], Painter]] = {
    "gymnast": _gymnast,
    "ball": _ball,
    "swimmer": _swimmer,
    "runner": _runner,
    "pool": _pool,
    "shapes": _shapes,
}


def draw_videos(
    seed: int, dives: int, others: int, height: int = 128, width: int = 172, begin: int = 0
) -> Iterator[tuple[int, Drawn]]:
    """`dives` dives and `others` hard negatives of all kinds in turn, mixed and numbered; the same for the same seed.
    From number `begin` on."""
    plan = ["dive"] * dives + [HARD_NEGATIVES[number % len(HARD_NEGATIVES)] for number in range(others)]
    for number, kind in list(enumerate(np.random.default_rng(seed).permutation(plan)))[begin:]:
        random = np.random.default_rng((seed, number))
        dive = kind == "dive"
        yield number, draw_dive(random, height, width) if dive else draw_other(random, str(kind), height, width)
