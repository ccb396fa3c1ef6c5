import os
import shutil

import pytest


def needs(program: str) -> str:
    """The path of `program`. Where it is missing the test skips and says so; in CI it fails."""
    path = shutil.which(program)
    if path is None:
        message = f"{program} is not installed"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path
