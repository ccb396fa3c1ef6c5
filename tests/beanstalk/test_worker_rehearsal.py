"""A worker environment beside a web one, from the bundle that eb uploaded: see scripts/rehearsal/workers.py."""

from collections.abc import Iterator

import pytest

from scripts.rehearsal import workers
from scripts.rehearsal.aws import DYNAMODB_LOCAL
from scripts.rehearsal.network import inside
from scripts.rehearsal.rehearsal import Rehearsal
from scripts.rehearsal.traffic import request
from scripts.rehearsal.upload import DEPLOY_BIN, Owner, cloud
from tests.needs import missing, needs, needs_root
from tests.rigs import host

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    needs_root("machines are made of mounts and name spaces")
    for program in ("nginx", "sshd", "rsync", "ip", "unshare", "nsenter", "git", "java"):
        needs(program)
    needs(str(DYNAMODB_LOCAL / "DynamoDBLocal.jar"))
    if not (DEPLOY_BIN / "eb").exists():
        missing("scripts/setup-deploy --dev has not been run")
    journal = tmp_path_factory.mktemp("journal")
    with cloud(journal) as environ:
        owner = Owner(tmp_path_factory.mktemp("clone"), environ, journal)
        workers.create(owner)
        yield owner


@pytest.fixture(scope="module")
def rehearsal(owner: Owner) -> Iterator[Rehearsal]:
    rehearsal = Rehearsal(owner, workers.WEB, workers=workers.WORKERS)
    try:
        rehearsal.fill_wheelhouse(owner, host.ENVIRONMENT)
        workers.bring_up(rehearsal, owner)
        yield rehearsal
    finally:
        rehearsal.close()


def test_eb_made_a_worker_environment(owner: Owner) -> None:
    call = [call for call in owner.calls("CreateEnvironment") if call["EnvironmentName"] == workers.WORKERS][-1]
    assert (call["TemplateName"], call["Tier"]["Name"]) == ("worker", "Worker")
    options = owner.options(workers.WORKERS)
    assert options["aws:elasticbeanstalk:application:environment"]["MODEL_API_ROLE"] == "worker"
    assert not [name for name in options if "elb" in name]


def test_workers_do_what_the_web_instance_is_asked_for(rehearsal: Rehearsal) -> None:
    done = workers.small_jobs(rehearsal)
    assert {job["status"] for job in done} == {"succeeded"}
    assert len({job["id"] for job in done}) == workers.JOBS


def test_scale_in_in_mid_job_loses_nothing(rehearsal: Rehearsal) -> None:
    """The bucket's event begins the job; its worker loses its power; every row is there once, in order."""
    job_id = workers.send_file(rehearsal)
    name = workers.scale_in_under(rehearsal, job_id)
    workers.until("the end", lambda: workers.job(rehearsal, job_id)["status"] == "succeeded")
    assert workers.job(rehearsal, job_id)["attempts"] >= 2
    assert name not in {instance.name for instance in rehearsal.workers.instances}
    rows = workers.rows_of(rehearsal, job_id)
    assert [row["id"] for row in rows] == [str(number) for number in range(workers.ROWS)]
    assert not any(row["error"] for row in rows)


def test_what_is_no_message_ends_among_the_dead_letters(rehearsal: Rehearsal) -> None:
    workers.spoil(rehearsal)
    assert workers.messages(rehearsal, rehearsal.resources.dead_letters_url) == 1


def test_nobody_but_the_daemon_reaches_a_worker_s_routes(rehearsal: Rehearsal) -> None:
    worker = rehearsal.workers.instances[0]
    reply = request(rehearsal.client, worker.address, "POST", "/worker/jobs", {"job": "0" * 64})
    assert reply.status == 404
    written = worker.machine.path("/etc/nginx/conf.d/elasticbeanstalk/limits.conf").read_text()
    assert "proxy_read_timeout 1810s;" in written
    with inside(rehearsal.aws_name):
        assert rehearsal.aws.client("dynamodb").list_tables()["TableNames"] == [rehearsal.resources.table]
