"""The options table: everything in .ebextensions and the saved configuration is known to Beanstalk, and in range."""

from pathlib import Path

import pytest

from model_api.settings import Settings
from scripts.beanstalk.saved_configuration import (
    ENVIRONMENT,
    SECRETS,
    SQSD,
    WORKER,
    Choices,
    saved_configuration,
    worker_configuration,
)
from scripts.rehearsal.ebextensions import BadExtension, extensions_of
from tests.rigs.beanstalk_options import OPTIONS, OVERRIDDEN_BY_EB
from tests.rigs.project import ROOT

EXTENSIONS = extensions_of(ROOT / ".ebextensions")
OUTPUTS = {
    "FileSystemId": "fs-0123456789abcdef0",
    "ModelsAccessPointId": "fsap-0123456789abcdef0",
    "StatusAccessPointId": "fsap-0123456789abcdef1",
    "InstanceSecurityGroupId": "sg-0123456789abcdef0",
    "InstanceProfileName": "model-api-efs-InstanceProfile-ABCDEFGHIJKL",
    "ServiceRoleName": "model-api-efs-ServiceRole-ABCDEFGHIJKL",
}
JOBS_OUTPUTS = {
    "TableName": "model-api-jobs-Table-ABCDEFGHIJKL",
    "BucketName": "model-api-jobs-bucket-abcdefghijkl",
    "QueueUrl": "https://sqs.us-east-1.amazonaws.com/123456789012/model-api-jobs-Queue-ABCDEFGHIJKL",
    "NotifySecretArn": "arn:aws:secretsmanager:us-east-1:123456789012:secret:notify-abcdef",
}
PLACE = ("vpc-0123456789abcdef0", [f"subnet-0123456789abcdef{number}" for number in range(6)])
CHOICES = Choices(
    arch="arm64",
    certificate_arn="arn:aws:acm:us-east-1:123456789012:certificate/1234",
    secrets={"API_KEY": "arn:aws:secretsmanager:us-east-1:123456789012:secret:key-abcdef"},
    properties={"MODEL_API_MODELS": "minilm,sentiment"},
)
SAVED = saved_configuration(OUTPUTS, *PLACE, CHOICES)["OptionSettings"]
FLEET = {
    "web": saved_configuration({**OUTPUTS, **JOBS_OUTPUTS}, *PLACE, CHOICES),
    "worker": worker_configuration({**OUTPUTS, **JOBS_OUTPUTS}, *PLACE, CHOICES),
}
MAX_PROPERTIES_BYTES = 4096
MAX_PROPERTY_CHARS = 256


def known(namespace: str, name: str, value: str) -> bool:
    return name in OPTIONS.get(namespace, {}) and OPTIONS[namespace][name](value)


@pytest.mark.parametrize(
    "settings",
    [EXTENSIONS.option_settings, SAVED, *(document["OptionSettings"] for document in FLEET.values())],
    ids=["ebextensions", "saved", *FLEET],
)
def test_every_option_is_known_and_in_range(settings: dict[str, dict[str, str]]) -> None:
    free = {ENVIRONMENT, SECRETS}
    bad = [
        f"{namespace} {name}: {value}"
        for namespace, options in settings.items()
        for name, value in options.items()
        if namespace not in free and not known(namespace, name, value)
    ]
    assert bad == []


def test_no_option_that_eb_create_overrides() -> None:
    ours = {(namespace, name) for namespace, options in EXTENSIONS.option_settings.items() for name in options}
    assert ours & OVERRIDDEN_BY_EB == set()


def test_the_saved_configuration_repeats_no_option() -> None:
    """It would beat .ebextensions, silently; only the processor is meant to."""
    ours = {(namespace, name) for namespace, options in EXTENSIONS.option_settings.items() for name in options}
    saved = {(namespace, name) for namespace, options in SAVED.items() for name in options}
    assert {namespace for namespace, _ in ours & saved} == {"aws:ec2:instances"}


@pytest.mark.parametrize("tier", FLEET)
def test_properties_fit(tier: str) -> None:
    saved = FLEET[tier]["OptionSettings"]
    properties = {**EXTENSIONS.option_settings[ENVIRONMENT], **saved[ENVIRONMENT], **saved[SECRETS]}
    assert sum(len(f"{name}={value}\n".encode()) for name, value in properties.items()) <= MAX_PROPERTIES_BYTES
    assert max(map(len, properties.values())) <= MAX_PROPERTY_CHARS


def test_the_application_takes_its_properties() -> None:
    """An unknown or bad MODEL_API_ property would keep the application from starting."""
    properties = {**EXTENSIONS.option_settings[ENVIRONMENT], **SAVED[ENVIRONMENT]}
    settings = Settings.from_env(properties)
    assert settings.efs_root == Path("/efs")
    assert settings.models == ("minilm", "sentiment")


def test_the_two_tiers_share_their_jobs_and_differ_in_their_role() -> None:
    found = {}
    for tier, document in FLEET.items():
        properties = {**EXTENSIONS.option_settings[ENVIRONMENT], **document["OptionSettings"][ENVIRONMENT]}
        found[tier] = Settings.from_env(properties)
    web, worker = found["web"], found["worker"]
    assert (web.role, worker.role) == ("web", "worker")
    assert (web.jobs_table, web.jobs_bucket) == (worker.jobs_table, worker.jobs_bucket)
    options = FLEET["worker"]["OptionSettings"]
    assert options[SQSD]["WorkerQueueURL"] == web.jobs_queue_url == worker.jobs_queue_url
    assert FLEET["worker"]["EnvironmentTier"] == {"Name": "Worker", "Type": "SQS/HTTP"}
    assert options[SECRETS]["MODEL_API_NOTIFY_SECRET"] == JOBS_OUTPUTS["NotifySecretArn"]


def test_what_only_a_balancer_knows_reaches_no_worker() -> None:
    """.ebextensions go to both tiers, and an option that an environment doesn't know fails its deployment."""
    for settings in (EXTENSIONS.option_settings, FLEET["worker"]["OptionSettings"]):
        assert not [name for name in settings if "elb" in name or ":process:" in name]
        assert "ELBSubnets" not in settings.get("aws:ec2:vpc", {})
        assert "LoadBalancerType" not in settings.get("aws:elasticbeanstalk:environment", {})


def test_a_worker_s_daemon_waits_inside_the_message_s_invisibility() -> None:
    sqsd = {name: int(value) for name, value in WORKER[SQSD].items() if value.isdigit()}
    assert sqsd["InactivityTimeout"] < sqsd["VisibilityTimeout"]
    assert sqsd["HttpConnections"] == Settings().jobs_at_once


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("option_setting: {}", "keys must be among"),
        ("- a list", "keys must be among"),
        ("commands: {a: {command: x}, a: {command: y}}", "given twice"),
    ],
)
def test_a_file_that_beanstalk_would_ignore_is_noticed(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "10.config").write_text(text)
    with pytest.raises(BadExtension, match=complaint):
        extensions_of(tmp_path)


def test_alarms_stand_on_resources_of_web_and_worker_environments() -> None:
    text = (ROOT / ".ebextensions/60-alarms.config").read_text()
    assert "AWSEBV2LoadBalancer" not in text
    assert set(EXTENSIONS.section("Resources")) >= {"ModelApiServerErrorsAlarm", "ModelApiHealthAlarm"}
