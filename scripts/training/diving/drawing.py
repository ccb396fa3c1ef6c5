"""A stick figure of thick limbs, and the scenes it moves in, drawn in numpy with soft edges.

Positions are in units of the picture's height, x to the right and y down; angles in radians, 0 is upright, positive
turns clockwise. The camera follows the figure, so it stays near the middle while the scene moves behind it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.float32]  # [height, width, 3], levels 0 to 255
Point = tuple[float, float]
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Pose:
    """How a body is held: `hip` and `knee` are flexed by so much, `parting` is the angle between the legs, `arms` the
    angle of the arms from the direction of the feet (pi is overhead)."""

    hip: float = 0.0
    knee: float = 0.0
    parting: float = 0.0
    arms: float = np.pi


@dataclass(frozen=True)
class Figure:
    size: float  # of the whole body, arms overhead
    skin: Colour
    suit: Colour
    thickness: float = 1.0


def draw_capsule(picture: Picture, start: Point, end: Point, radius: float, colour: Colour, alpha: float = 1.0) -> None:
    """A line with round ends, in place."""
    height, width = picture.shape[:2]
    x0, y0, x1, y1, r = (value * height for value in (*start, *end, radius))
    left, right = max(int(min(x0, x1) - r - 1), 0), min(int(max(x0, x1) + r + 2), width)
    top, bottom = max(int(min(y0, y1) - r - 1), 0), min(int(max(y0, y1) + r + 2), height)
    if left >= right or top >= bottom:
        return
    xs = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(x0)
    ys = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(y0)
    dx, dy = np.float32(x1 - x0), np.float32(y1 - y0)
    along = np.clip((xs * dx + ys * dy) / max(dx * dx + dy * dy, 1e-6), 0, 1)
    distance = np.hypot(xs - along * dx, ys - along * dy)
    cover = np.clip(np.float32(r + 0.5) - distance, 0, 1)[..., None] * np.float32(alpha)
    patch = picture[top:bottom, left:right]
    patch += cover * (np.asarray(colour, np.float32) - patch)


def _towards(start: Point, angle: float, length: float) -> Point:
    return start[0] + float(np.sin(angle)) * length, start[1] - float(np.cos(angle)) * length


def draw_figure(picture: Picture, middle: Point, turn: float, pose: Pose, figure: Figure, facing: int = 1) -> None:
    """A body whose middle (its hip) lies at `middle` and whose trunk points to `turn`, in place. `facing` 1 or -1."""
    s, thick = figure.size, figure.size * figure.thickness
    shoulder = _towards(middle, turn, 0.26 * s)
    head = _towards(middle, turn, 0.345 * s)
    for side in (-1, 1):  # the far limbs first
        thigh = turn + np.pi - facing * pose.hip + side * pose.parting / 2
        knee = _towards(middle, thigh, 0.2 * s)
        foot = _towards(knee, thigh + facing * pose.knee, 0.22 * s)
        shade = 0.8 if side < 0 else 1.0
        skin = tuple(level * shade for level in figure.skin)
        draw_capsule(picture, middle, knee, 0.042 * thick, skin)  # type: ignore[arg-type]
        draw_capsule(picture, knee, foot, 0.03 * thick, skin)  # type: ignore[arg-type]
        hand = _towards(shoulder, turn + np.pi - facing * pose.arms + side * 0.05, 0.27 * s)
        draw_capsule(picture, shoulder, hand, 0.025 * thick, skin)  # type: ignore[arg-type]
    draw_capsule(picture, middle, shoulder, 0.058 * thick, figure.skin)
    draw_capsule(picture, middle, _towards(middle, turn, 0.1 * s), 0.06 * thick, figure.suit)
    draw_capsule(picture, head, head, 0.06 * s, figure.skin)


@dataclass
class Scene:
    """What stands behind: a wall with windows or tiles, made once, seen through a camera that moves."""

    wall: Picture
    water: Colour | None
    floor_y: float
    """Where the ground, or the water, begins: in heights of the picture below the scene's origin."""
    ripples: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(64, np.float32))

    def show(self, camera: Point, height: int, width: int) -> Picture:
        """The background as the camera sees it, whose middle looks at `camera`."""
        rows = (np.arange(height) + int((camera[1] - 0.5) * height)) % self.wall.shape[0]
        columns = (np.arange(width) + int(camera[0] * height) - width // 2) % self.wall.shape[1]
        picture: Picture = self.wall[rows][:, columns].copy()
        edge = int((self.floor_y - camera[1] + 0.5) * height)
        if edge < height and self.water is not None:
            edge = max(edge, 0)
            waves = self.ripples[(np.arange(edge, height) + int(camera[0] * 40)) % 64][:, None, None]
            picture[edge:] = np.asarray(self.water, np.float32) * (1 + waves)
        elif edge < height:
            picture[max(edge, 0) :] = picture[max(edge, 0) :] * 0.3 + np.asarray((90, 70, 60), np.float32)
        return picture


def make_scene(random: np.random.Generator, height: int, wet: bool, floor_y: float) -> Scene:
    """A wall of the size of two pictures with stripes, windows and blotches in colours of its own."""
    shape = (2 * height, 2 * height, 3)
    base = random.uniform(60, 200, 3)
    wall = np.broadcast_to(base.astype(np.float32), shape).copy()
    wall += np.linspace(-30, 30, shape[0], dtype=np.float32)[:, None, None] * random.choice((-1.0, 1.0))
    for _ in range(int(random.integers(6, 18))):
        top, left = random.integers(0, shape[0]), random.integers(0, shape[1])
        tall, wide = random.integers(height // 16, height // 2), random.integers(height // 16, height // 2)
        wall[top : top + tall, left : left + wide] += random.uniform(-40, 40, 3).astype(np.float32)
    for row in range(0, shape[0], int(random.integers(height // 6, height // 2))):
        wall[row : row + max(height // 64, 1)] -= 25
    ripples = random.normal(0, 0.06, 64).astype(np.float32)
    blue = (random.uniform(10, 80), random.uniform(90, 170), random.uniform(150, 225))
    return Scene(np.clip(wall, 0, 255), blue if wet else None, floor_y, ripples)


def draw_splash(picture: Picture, at: Point, size: float, age: float, drops: Sequence[Point]) -> None:
    """White water thrown up at `at`: `size` 0 to 1, `age` 0 (just now) to 1 (fallen back)."""
    rise = float(np.sin(min(age * 1.15 + 0.1, 1.0) * np.pi)) * (0.05 + 0.4 * size)
    spread = (0.03 + 0.2 * size) * (0.4 + age)
    white = (238.0, 244.0, 248.0)
    for x, y in drops:
        place = (at[0] + x * spread, at[1] - max(y, 0.02) * rise)
        draw_capsule(picture, (place[0], at[1]), place, 0.008 + 0.018 * size, white, 0.55)
    draw_capsule(picture, (at[0] - spread, at[1]), (at[0] + spread, at[1]), 0.012 + 0.012 * size, white, 0.8)


def finish(picture: Picture, random: np.random.Generator, light: float, grain: float) -> npt.NDArray[np.uint8]:
    """As a camera would give it: its light, and its grain."""
    noise = random.standard_normal(picture.shape[:2], np.float32)[..., None] * np.float32(grain)
    return np.clip(picture * np.float32(light) + noise, 0, 255).astype(np.uint8)
