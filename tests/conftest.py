"""Before any test: this machine's own ways are shut out, see rigs/host.py."""

import atexit
import shutil
import tempfile
from pathlib import Path

from tests.rigs import host

# At import, not in a fixture: test modules read the environment when they are imported.
host.expect_utf8()
_folder = Path(tempfile.mkdtemp(prefix="tests-home-"))
atexit.register(shutil.rmtree, _folder, ignore_errors=True)
host.shut_out(_folder / "home")
