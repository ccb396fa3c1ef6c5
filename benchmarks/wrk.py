"""Load by wrk: real HTTP over loopback, keep-alive, as many connections as asked for, each with one request open."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("post.lua")
TIMEOUT_S = 120  # wrk counts slower answers as errors


class LoadFailed(Exception):
    """wrk couldn't run, or its output can't be read."""


@dataclass(frozen=True)
class Load:
    """What wrk saw. Latencies are of completed requests; `errors` counts everything that wasn't a 2xx or 3xx."""

    requests: int
    duration_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    errors: int

    @property
    def per_s(self) -> float:
        return self.requests / self.duration_s

    def values(self) -> dict[str, float]:
        """As a scenario's case holds them; latencies only where there were any."""
        latencies = {"p50_ms": self.p50_ms, "p90_ms": self.p90_ms, "p99_ms": self.p99_ms} if self.requests else {}
        return {"req_per_s": self.per_s, **latencies, "requests": self.requests, "errors": self.errors}


def start(url: str, bodies: Path, connections: int, duration_s: float, key: str | None = None) -> subprocess.Popen[str]:
    """Start wrk with one thread: it must not take more of the machine than it has to."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(duration_s))}s", f"--timeout={TIMEOUT_S}s"]
    try:
        return subprocess.Popen(
            [*command, "-s", str(SCRIPT), url, "--", str(bodies), *([key] if key else [])],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    except FileNotFoundError as error:
        raise LoadFailed("wrk is not installed (Debian's package wrk)") from error


def finish(process: subprocess.Popen[str]) -> Load:
    """Wait for wrk and read what it printed."""
    output, _ = process.communicate()
    if process.returncode != 0:
        raise LoadFailed(f"wrk ended with {process.returncode}: {output.strip()[-500:]}")
    return parse(output)


def run(url: str, bodies: Path, connections: int, duration_s: float, key: str | None = None) -> Load:
    return finish(start(url, bodies, connections, duration_s, key))


def parse(output: str) -> Load:
    """Read the line that post.lua prints at the end."""
    line = next((line for line in reversed(output.splitlines()) if line.startswith('{"requests"')), None)
    if line is None:
        raise LoadFailed(f"no figures in wrk's output: {output.strip()[-500:]}")
    raw = json.loads(line)
    errors = sum(raw[kind] for kind in ("connect", "read", "write", "status", "timeout"))
    return Load(
        requests=raw["requests"],
        duration_s=raw["duration_us"] / 1e6,
        p50_ms=raw["p50_us"] / 1e3,
        p90_ms=raw["p90_us"] / 1e3,
        p99_ms=raw["p99_us"] / 1e3,
        max_ms=raw["max_us"] / 1e3,
        errors=errors,
    )
