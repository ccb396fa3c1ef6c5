"""Deployments as Beanstalk performs them, from the bundle that the real eb command uploaded: see scripts/rehearsal."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.rehearsal.fleet import ENVIRONMENT, DeploymentFailed, Instance
from scripts.rehearsal.rehearsal import Rehearsal, demo_weights
from scripts.rehearsal.traffic import Reply, Traffic, request
from scripts.rehearsal.upload import DEPLOY_BIN, Owner, cloud
from tests.needs import missing, needs, needs_root
from tests.rigs import host
from tests.rigs.polling import wait_until

pytestmark = pytest.mark.integration
SIM = {"model": "minilm", "target": "A cat sits on the mat.", "texts": ["A kitten is on a rug.", "Stocks fell today."]}


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    needs_root("machines are made of mounts and name spaces")
    for program in ("nginx", "sshd", "rsync", "ip", "unshare", "nsenter", "git"):
        needs(program)
    if not (DEPLOY_BIN / "eb").exists():
        missing("scripts/setup-deploy --dev has not been run")
    journal = tmp_path_factory.mktemp("journal")
    with cloud(journal) as environ:
        owner = Owner(tmp_path_factory.mktemp("clone"), environ, journal)
        owner.create("rehearsal", "--open")
        owner.deploy("first")
        changed = owner.folder / "model_api/__init__.py"
        changed.write_text(changed.read_text() + "# a change\n")
        owner.commit("a change")
        owner.deploy("second")
        yield owner


@pytest.fixture(scope="module")
def rehearsal(owner: Owner) -> Iterator[Rehearsal]:
    """Two instances with the first version, serving minilm, which an author published over ssh before."""
    rehearsal = Rehearsal(owner, "rehearsal")
    try:
        rehearsal.fill_wheelhouse(owner, host.ENVIRONMENT)
        rehearsal.publisher.model_api("publish", str(demo_weights()), "--model", "minilm")
        rehearsal.fleet.create(owner.bundle("first"), 2)
        yield rehearsal
    finally:
        rehearsal.close()


@pytest.fixture
def instance(rehearsal: Rehearsal) -> Instance:
    return rehearsal.fleet.instances[0]


def right(reply: Reply) -> bool:
    if reply.status != 200:
        return False
    sims = reply.json()["context"]["sims"]
    return len(sims) == 2 and sims[0] > 0.5 > sims[1]


def traffic(rehearsal: Rehearsal) -> Traffic:
    return Traffic(rehearsal.client, rehearsal.fleet.balancer.address, right, SIM, callers=3, pause_s=0.1)


def output_of(instance: Instance, step: str) -> str:
    return "".join(one.output for one in instance.steps if one.step == step)


def test_first_deployment(rehearsal: Rehearsal, instance: Instance) -> None:
    assert right(rehearsal.ask("POST", "/sim", SIM))
    users = instance.machine.run("ps", "-eo", "uid,args").splitlines()
    assert {line.split()[0] for line in users if "gunicorn" in line} == {"900"}
    order = [step.step for step in instance.steps]
    expected = ["package amazon-efs-utils", "bundle", "hook prebuild/10_mount_models.sh", "pip", "web start"]
    assert sorted(expected, key=order.index) == expected
    assert order[-2:] == ["hook postdeploy/10_wait_ready.sh", "hook postdeploy/20_nginx_connections.sh"]


def test_scale_out_needs_no_registry(instance: Instance) -> None:
    assert "takes everything from the wheelhouse" in output_of(instance, "hook prebuild/20_stage_wheels.sh")


def test_models_are_read_only_and_status_is_not(rehearsal: Rehearsal, instance: Instance) -> None:
    for user in ("root", "webapp"):
        done = subprocess.run(
            instance.machine.command("runuser", "-u", user, "--", "touch", "/efs/x"), capture_output=True
        )
        assert b"Read-only file system" in done.stderr
    statuses = rehearsal.backing / "status"
    wait_until(lambda: len(list(statuses.glob("*.json"))) >= 2, within_s=60)


def test_authors_see_their_model_arrive(rehearsal: Rehearsal) -> None:
    output = rehearsal.publisher.model_api("publish", str(demo_weights()), "--model", "second", "--wait")
    assert "every live instance serves it" in output
    assert {model["name"] for model in rehearsal.ask("GET", "/models").json()["models"]} == {"minilm", "second"}


def test_scale_out_takes_traffic_only_when_ready_though_the_mount_failed_twice(rehearsal: Rehearsal) -> None:
    rehearsal.fail_mounts("2")
    with traffic(rehearsal) as running:
        third = rehearsal.fleet.scale_out()
        assert third.address in rehearsal.fleet.balancer.in_service()
    assert running.failures == []
    assert running.answered > 20
    assert "mounted after 2 failed attempts" in output_of(third, "hook prebuild/10_mount_models.sh")


def test_scale_in_loses_no_request(rehearsal: Rehearsal) -> None:
    with traffic(rehearsal) as running:
        rehearsal.fleet.terminate(rehearsal.fleet.instances[-1])
        wait_until(lambda: running.answered > 20, within_s=60)
    assert running.failures == []
    assert len(rehearsal.fleet.instances) == 2


def test_rolling_deployment_under_load_with_a_bad_model_published(
    rehearsal: Rehearsal, owner: Owner, tmp_path: Path
) -> None:
    """The bad one passes every check of its files; only its probe shows that its answers aren't what the author saw."""
    probe = tmp_path / "probe.json"
    probe.write_text(json.dumps({"inputs": ["x"], "outputs": [[1.0] + [0.0] * 383]}))
    rehearsal.publisher.model_api("publish", str(demo_weights()), "--model", "bad", "--probe", str(probe), "--no-check")
    with traffic(rehearsal) as running:
        rehearsal.fleet.roll(owner.bundle("second"))
    assert running.failures == []
    assert running.answered > 50
    for instance in rehearsal.fleet.instances:
        text = instance.machine.path("/var/app/current/model_api/__init__.py").read_text()
        assert "# a change" in text
    bad = rehearsal.ask("GET", "/models/bad").json()
    assert bad["refused"], bad


def test_a_deployment_that_gets_no_store_is_aborted_and_the_old_version_serves(
    rehearsal: Rehearsal, owner: Owner
) -> None:
    rehearsal.fail_mounts("always")
    before = rehearsal.fleet.balancer.in_service()
    with traffic(rehearsal) as running, pytest.raises(DeploymentFailed, match="no model store at /efs"):
        rehearsal.fleet.roll(owner.bundle("first"))
    rehearsal.fail_mounts("0")
    assert running.failures == []
    assert rehearsal.fleet.balancer.in_service() == before


def test_a_mount_that_hangs_aborts_a_deployment_in_time(rehearsal: Rehearsal, owner: Owner) -> None:
    rehearsal.fail_mounts("hang")
    try:
        with traffic(rehearsal) as running, pytest.raises(DeploymentFailed, match="no model store at /efs within"):
            rehearsal.fleet.roll(owner.bundle("first"))
    finally:
        rehearsal.fail_mounts("0")
    assert running.failures == []


def test_a_setting_that_is_refused_changes_nothing(rehearsal: Rehearsal, owner: Owner, instance: Instance) -> None:
    """In what runs; the engine has written it where the next start reads it, until it is taken back."""
    properties = rehearsal.fleet.options[ENVIRONMENT]
    properties["MODEL_API_LANES"] = "many"
    try:
        for kind in ("config", "app"):
            with pytest.raises(DeploymentFailed, match="check_settings: MODEL_API_LANES='many'"):
                rehearsal.fleet.deploy(instance, owner.bundle("second"), kind)
            assert right(request(rehearsal.client, instance.address, "POST", "/sim", SIM))
    finally:
        del properties["MODEL_API_LANES"]
        rehearsal.fleet.deploy(instance, owner.bundle("second"), "config")
    rehearsal.fleet.wait_in_service(instance)


def test_a_reboot_remounts(rehearsal: Rehearsal, instance: Instance) -> None:
    rehearsal.fail_mounts("1")  # fstab's only attempt may fail; the unit beside it keeps trying
    instance.machine.reboot()
    wait_until(lambda: instance.address not in rehearsal.fleet.balancer.in_service(), within_s=30)
    wait_until(lambda: instance.machine.path("/efs/.model-store").exists(), within_s=30)
    rehearsal.fleet.wait_in_service(instance)
    assert right(request(rehearsal.client, instance.address, "POST", "/sim", SIM))


@pytest.mark.parametrize("how", ["hang", "always"])
def test_a_property_change_without_the_store_only_warns(
    rehearsal: Rehearsal, owner: Owner, instance: Instance, how: str
) -> None:
    """Whether mounting fails or hangs."""
    instance.machine.run("sh", "-c", "! mountpoint -q /efs || umount /efs")
    rehearsal.fail_mounts(how)
    rehearsal.fleet.options[ENVIRONMENT]["MODEL_API_REQUEST_TIMEOUT_S"] = "1"
    rehearsal.fleet.balancer.deregister(instance.address, 0)
    rehearsal.fleet.deploy(instance, owner.bundle("second"), "config")
    assert "WARNING: no model store" in output_of(instance, "hook prebuild/10_mount_models.sh")
    assert right(request(rehearsal.client, instance.address, "POST", "/sim", SIM))
    rehearsal.fail_mounts("0")
    rehearsal.fleet.balancer.register(instance.address)
    rehearsal.fleet.wait_in_service(instance)


def test_a_body_too_large_is_refused_by_nginx_as_a_problem(rehearsal: Rehearsal, instance: Instance) -> None:
    reply = request(rehearsal.client, instance.address, "POST", "/sim", b"x" * (10485760 + 1))
    assert reply.status == 413
    assert_problem(reply, 413)


def test_an_application_that_hangs_is_a_504_from_nginx(rehearsal: Rehearsal, instance: Instance) -> None:
    """nginx waits for the application's deadline (1 s since the property change) and 10 s more."""
    processes = instance.machine.run("pgrep", "-u", "webapp", "-f", "gunicorn").split()
    instance.machine.run("kill", "-STOP", *processes)
    try:
        reply = request(rehearsal.client, instance.address, "POST", "/sim", SIM)
    finally:
        instance.machine.run("kill", "-CONT", *processes)
    assert_problem(reply, 504)
    assert int(reply.headers["retry-after"]) > 0


def test_an_application_that_is_away_is_a_503_from_nginx(rehearsal: Rehearsal, instance: Instance) -> None:
    instance.machine.run("systemctl", "stop", "web")
    reply = request(rehearsal.client, instance.address, "GET", "/healthz")
    instance.machine.run("systemctl", "start", "web")
    assert_problem(reply, 503)
    assert int(reply.headers["retry-after"]) > 0


def assert_problem(reply: Reply, status: int) -> None:
    assert (reply.status, reply.headers["content-type"]) == (status, "application/problem+json")
    assert reply.json()["status"] == status
    assert reply.headers["access-control-allow-origin"] == "*"
