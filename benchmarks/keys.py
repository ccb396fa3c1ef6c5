"""What keys cost: `python -m benchmarks.keys [--seconds 40]`.

The same short requests to minilm in turn: of anybody to an open server; to one that asks for keys, of a key, of one
with limits that are counted in memory, and of a token (JWT, HS256). Prints rates and shares of the first.
"""

import argparse
import json
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import jwt

from benchmarks import wrk
from benchmarks.interleaved import TURNS, share, together
from tests.rigs.author import Author
from tests.rigs.keyed import KeyStore
from tests.rigs.models import minilm_folder
from tests.rigs.server import server

SECRET = "a secret of the benchmark, of 32 bytes"
CONNECTIONS = 16


def main(seconds: float) -> None:
    with tempfile.TemporaryDirectory() as place, ExitStack() as servers:
        folder = Path(place)
        (folder / "efs").mkdir()
        Author(folder / "efs").publish(minilm_folder(), "minilm")
        store = KeyStore(folder / "efs")
        bodies = folder / "bodies"
        texts = [f"a short text of a few words, number {number}" for number in range(500)]
        bodies.write_text("".join(json.dumps({"model": "minilm", "inputs": text}) + "\n" for text in texts))
        claims = {"sub": "benchmark", "exp": int(time.time()) + 86400, "scope": "predict"}
        limited = store.create("predict", rates="1000000000/minute, 100000000000 tokens/day")
        callers = {
            "open": None,
            "a key": store.create("predict"),
            "a key with two limits": limited,
            "a token": jwt.encode(claims, SECRET, "HS256"),
        }
        required = {"MODEL_API_AUTH": "required", "MODEL_API_JWT_SECRET": SECRET, "MODEL_API_EFS_ROOT": folder / "efs"}
        keyed = servers.enter_context(server(folder / "keyed", **required))
        opened = servers.enter_context(server(folder / "open", MODEL_API_EFS_ROOT=folder / "efs"))
        asked = {}
        for name, key in callers.items():
            api = opened if key is None else keyed
            api.wait_until_ready()
            asked[name] = (f"{api.url}/predict", bodies, key)
            wrk.run(f"{api.url}/predict", bodies, CONNECTIONS, 3, key)
        loads: dict[str, list[wrk.Load]] = {name: [] for name in asked}
        for _ in range(TURNS):
            for name, (url, file, key) in asked.items():
                loads[name].append(wrk.run(url, file, CONNECTIONS, seconds / TURNS, key))
        print("| caller | requests/s | of open | failed |\n| --- | --- | --- | --- |")
        for name, found in loads.items():
            rate = together(found)
            print(f"| {name} | {rate['req_per_s']:.0f} | {share(found, loads['open']):.3f} | {rate['errors']:.0f} |")
        sizes = {name: api.memory_by_role()["web"] / 1e6 for name, api in (("open", opened), ("keyed", keyed))}
        print(", ".join(f"{name}: web process {size:.1f} MB" for name, size in sizes.items()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=40.0, help="of load for each caller (default: %(default)s)")
    main(parser.parse_args().seconds)
