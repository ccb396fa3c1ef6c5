"""What a loaded model must pass before it serves. Model side only."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from model_api.errors import ProbeFailed, Refused
from model_api.repository.manifest import Manifest, Probe
from model_api.tasks.contract import Array, Limits, Prepared, WebSide

# bfloat16's rounding stays above 0.999, a broken kernel is far below. int8 costs more, and more with some weights than
# with others: .99 and above with those measured (docs/precision.md); an author may ask for a closer bound.
MIN_COSINES_TO_FLOAT32 = {"bfloat16": 0.995, "int8": 0.98}
MIN_COSINE_OPTION = "int8_min_cosine"
# An author's probes aren't callers: they may be as long as the model takes.
PROBE_LIMITS = Limits(max_text_chars=10_000_000)


class Runs(Protocol):
    """A model, or what stands in for it."""

    def forward(self, arrays: Sequence[Array], parameters: Mapping[str, Any]) -> Sequence[Array]: ...


def warm(model: Runs, prepared: Prepared) -> list[Array]:
    """Run the built-in inputs one by one and all at once; the outputs of the latter, all finite. Raises ProbeFailed."""
    for array in prepared.arrays:
        model.forward([array], prepared.parameters)
    outputs = list(model.forward(prepared.arrays, prepared.parameters))
    for output in outputs:
        if not np.isfinite(output).all():
            raise ProbeFailed("the model gives NaN or infinity on a built-in text")
    return outputs


def compare_to_float32(
    outputs: Sequence[Array], reference: Sequence[Array], precision: str, options: Mapping[str, Any]
) -> None:
    """Raises ProbeFailed unless every row points where the float32 row points, as nearly as its precision must."""
    worst = min(cosine(a, b) for a, b in zip(outputs, reference, strict=True))
    bound = min_cosine(precision, options)
    if not worst >= bound:
        advice = "; publish with --option precision=float32" if precision == "bfloat16" else ""
        raise ProbeFailed(f"{precision} differs from float32 (cosine {worst:.4f}, below {bound:g}){advice}")


def measured_too_far(manifest: Manifest) -> str:
    """Why this model isn't served in int8, by what its author's publish measured; "" if nothing speaks against it.
    Raises Refused for a senseless bound."""
    measured, bound = manifest.accuracy, min_cosine("int8", manifest.options)
    if measured is None or measured.precision != "int8" or measured.min_cosine >= bound:
        return ""
    return f"in int8: measured at publish on {measured.texts} texts: cosine {measured.min_cosine:.4f}, below {bound:g}"


def min_cosine(precision: str, options: Mapping[str, Any]) -> float:
    """The bound of a precision; of int8, the manifest's option where it has one. Raises Refused for a senseless one."""
    asked = options.get(MIN_COSINE_OPTION)
    if precision != "int8" or asked is None:
        return MIN_COSINES_TO_FLOAT32[precision]
    if isinstance(asked, bool) or not isinstance(asked, int | float) or not 0 <= asked <= 1:
        raise Refused("manifest.json", f"option {MIN_COSINE_OPTION} is {asked!r}, not a number from 0 to 1")
    return float(asked)


def cosine(a: Array, b: Array) -> float:
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    norm = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / norm if norm else float(np.array_equal(a, b))


def run_probe(model: Runs, web: WebSide, probe: Probe, number: int) -> None:
    """Raises ProbeFailed if a prediction isn't what the author saw, naming the probe and the place."""
    prepared = web.prepare(probe.inputs, probe.parameters)
    predictions = web.finish(prepared, list(model.forward(prepared.arrays, prepared.parameters)))
    for index, (got, wanted) in enumerate(zip(predictions, probe.outputs, strict=True)):
        difference = first_difference(got, wanted, probe.tolerance)
        if difference:
            raise ProbeFailed(f"probe {number}, input {index}: {difference}")


def first_difference(got: Any, wanted: Any, tolerance: float, place: str = "output") -> str | None:
    """Where two JSON-like values differ, numbers by more than `tolerance`; None if they agree."""
    if isinstance(got, np.ndarray):
        got = got.tolist()
    if isinstance(got, bool) or isinstance(wanted, bool) or not isinstance(got, int | float):
        if isinstance(got, Mapping) and isinstance(wanted, Mapping) and got.keys() == wanted.keys():
            pairs = [(f"{place}.{key}", got[key], wanted[key]) for key in wanted]
        elif isinstance(got, list) and isinstance(wanted, list) and len(got) == len(wanted):
            pairs = [(f"{place}[{i}]", a, b) for i, (a, b) in enumerate(zip(got, wanted, strict=True))]
        else:
            same = type(got) is type(wanted) and got == wanted
            return None if same else f"{place} differs from what the author saw"
        return next((d for where, a, b in pairs if (d := first_difference(a, b, tolerance, where))), None)
    if isinstance(wanted, int | float) and abs(got - wanted) <= tolerance:
        return None
    return f"{place} is {got:.6g}, the author saw {wanted}"
