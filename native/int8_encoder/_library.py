"""The C library, which lies beside this file, and its interface (src/api.h)."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

FILE_NAME = "libint8_encoder.so"
_ERRORS = {
    -1: "this processor can't run that variant, or there is none of that name",
    -2: "impossible sizes",
    -3: "not a packed model, or cut short",
    -4: "no such tensor, or not of that many values",
    -5: "a weight is NaN or infinite",
    -6: "a text has no tokens, or more than the model has positions; or the lengths don't add up",
    -7: "a token id outside of the vocabulary",
    -8: "no such pooling",
    -9: "the word table isn't [vocabulary, hidden] in float32, float16 or bfloat16",
    -10: "a block of memory is too small",
}


class Sizes(ctypes.Structure):
    """struct Sizes of src/model.h."""

    _fields_ = (
        *(
            (name, ctypes.c_int32)
            for name in (
                "hidden", "heads", "layers", "ffn", "vocabulary", "positions", "first_position", "padding_id",
                "activation",
            )
        ),
        ("norm_eps", ctypes.c_float),
    )  # fmt: skip


_POINTER, _I32, _I64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
_SIGNATURES = {
    "int8_variant_count": (_I32, ()),
    "int8_variant_name": (ctypes.c_char_p, (_I32,)),
    "int8_variant_runs_here": (_I32, (_I32,)),
    "int8_model_bytes": (_I64, (_POINTER,)),
    "int8_create": (_I32, (_POINTER, _I64, _POINTER, _I32)),
    "int8_model_variant": (_I32, (_POINTER, _I64)),
    "int8_set_positions": (_I32, (_POINTER, _I64, _POINTER, _I64)),
    "int8_set_norm": (_I32, (_POINTER, _I64, _I32, _I32, _POINTER, _POINTER, _I64)),
    "int8_set_matrix": (_I32, (_POINTER, _I64, _I32, _I32, _POINTER, _I64, _POINTER, _I64)),
    "int8_scratch_bytes": (_I64, (_POINTER, _I64, _I64, _I64)),
    "int8_forward": (
        _I32,
        (_POINTER, _I64, _POINTER, _I64, _I32, _POINTER, _I64, _POINTER, _I64, _I32, _POINTER, _I64, _POINTER, _I64),
    ),
}  # fmt: skip


@cache
def library() -> ctypes.CDLL:
    """Raises OSError where the package was built without its library, or for another processor."""
    loaded = ctypes.CDLL(str(Path(__file__).with_name(FILE_NAME)))
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded


def checked(answer: int) -> int:
    """The answer of an entry point. Raises ValueError in words where it is an error."""
    if answer < 0:
        raise ValueError(_ERRORS.get(answer, f"error {answer}"))
    return answer
