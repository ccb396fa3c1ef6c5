"""scripts/rehearse: the whole story once, told as it happens."""

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scripts.rehearsal.fleet import DeploymentFailed, Instance
from scripts.rehearsal.rehearsal import Rehearsal, demo_weights
from scripts.rehearsal.traffic import Reply, Traffic, request
from scripts.rehearsal.upload import Owner, cloud

SIM = {"target": "A cat sits on the mat.", "texts": ["A kitten is sitting on a rug.", "Stocks fell sharply today."]}
_BEGAN = time.monotonic()


def say(text: str) -> None:
    print(f"{time.monotonic() - _BEGAN:7.1f} s  {text}", flush=True)


def timeline(rehearsal: Rehearsal, instance: Instance, cold: bool) -> list[tuple[str, float]]:
    """Scale-out, step by step, in seconds: the engine's steps and then the model's own, from GET /models/minilm."""
    named = {
        "bundle": "bundle unpacked",
        "hook prebuild/10_mount_models.sh": "EFS mounted and checked",
        "hook prebuild/20_stage_wheels.sh": "wheels staged and verified",
        "pip": "pip install (cold)" if cold else "pip install (image has the packages)",
        "web start": "web process started",
    }
    rows = [(named[step.step], step.seconds) for step in instance.steps if step.step in named]
    reply = request(rehearsal.client, instance.address, "GET", "/models/minilm")
    stages = reply.json()["versions"][0]["timeline"]
    for stage, following in itertools.pairwise(stages):
        rows.append((f"minilm {stage['stage']}", following["after_s"] - stage["after_s"]))
    rows += [("ready (waited for)", s.seconds) for s in instance.steps if s.step == "hook postdeploy/10_wait_ready.sh"]
    return rows


def show(rehearsal: Rehearsal, owner: Owner) -> None:
    fleet = rehearsal.fleet
    rehearsal.fill_wheelhouse(owner, os.environ)
    say("wheelhouse filled")
    rehearsal.publisher.model_api("publish", str(demo_weights()), "--model", "minilm")
    say("an author published minilm to the publisher host, over ssh")
    fleet.scale_out(owner.bundle("first"))
    fleet.bundle = owner.bundle("first")
    say("first instance in service:")
    _table(timeline(rehearsal, fleet.instances[0], cold=True))
    fleet.scale_out()
    say("second instance in service")
    with Traffic(rehearsal.client, fleet.balancer.address, _right, SIM) as traffic:
        launched = time.monotonic()
        third = fleet.scale_out()
        took_s = time.monotonic() - launched
        say(f"scaled out under load: launch to first traffic {took_s:.1f} s")
        _table(timeline(rehearsal, third, cold=False))
        fleet.roll(owner.bundle("second"))
        say("second version deployed, rolling with an additional batch")
        fleet.terminate(third)
        say("scaled in")
    say(f"{traffic.answered} requests meanwhile, {len(traffic.failures)} failed")
    for failure in traffic.failures[:10]:
        print(f"    {failure}")
    url = f"http://{fleet.balancer.address}"
    for arguments in (
        ["-X", "POST", f"{url}/sim", "-H", "Content-Type: application/json", "-d", json.dumps(SIM)],
        [f"{url}/models"],
        ["-i", "-X", "POST", f"{url}/predict", "-H", "Content-Type: application/json", "-d", "{"],
    ):
        curl = ["ip", "netns", "exec", rehearsal.client, "curl", "--silent", *arguments]
        print("\n$ curl " + " ".join(f"'{part}'" if " " in part or "{" in part else part for part in arguments))
        print(subprocess.run(curl, check=True, capture_output=True, text=True).stdout)
    if traffic.failures:
        raise SystemExit(1)


def _right(reply: Reply) -> bool:
    return reply.status == 200 and len(reply.json()["context"]["sims"]) == len(SIM["texts"])


def _table(rows: list[tuple[str, float]]) -> None:
    for name, seconds in rows:
        print(f"             {seconds:7.2f} s  {name}")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="rehearsal-owner-") as folder:
        work = Path(folder)
        with cloud(work / "journal") as environ:
            owner = Owner(work / "clone", environ, work / "journal")
            owner.create("rehearsal", "--open")
            owner.deploy("first")
            owner.deploy("second")
            say("eb init, create and deploy done (against moto)")
            rehearsal = Rehearsal(owner, "rehearsal")
            try:
                show(rehearsal, owner)
            except DeploymentFailed as failure:
                sys.exit(f"rehearse: {failure}")
            finally:
                rehearsal.close()


if __name__ == "__main__":
    main()
