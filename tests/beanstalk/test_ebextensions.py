"""The options table: everything in .ebextensions and the saved configuration is known to Beanstalk, and in range."""

from pathlib import Path

import pytest

from model_api.settings import Settings
from scripts.beanstalk.saved_configuration import ENVIRONMENT, SECRETS, Choices, saved_configuration
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
SAVED = saved_configuration(
    OUTPUTS,
    "vpc-0123456789abcdef0",
    [f"subnet-0123456789abcdef{number}" for number in range(6)],
    Choices(
        arch="arm64",
        certificate_arn="arn:aws:acm:us-east-1:123456789012:certificate/1234",
        secrets={"API_KEY": "arn:aws:secretsmanager:us-east-1:123456789012:secret:key-abcdef"},
        properties={"MODEL_API_MODELS": "minilm,sentiment"},
    ),
)["OptionSettings"]
MAX_PROPERTIES_BYTES = 4096
MAX_PROPERTY_CHARS = 256


def known(namespace: str, name: str, value: str) -> bool:
    return name in OPTIONS.get(namespace, {}) and OPTIONS[namespace][name](value)


@pytest.mark.parametrize("settings", [EXTENSIONS.option_settings, SAVED], ids=["ebextensions", "saved"])
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


def test_properties_fit() -> None:
    properties = {**EXTENSIONS.option_settings[ENVIRONMENT], **SAVED[ENVIRONMENT], **SAVED[SECRETS]}
    assert sum(len(f"{name}={value}\n".encode()) for name, value in properties.items()) <= MAX_PROPERTIES_BYTES
    assert max(map(len, properties.values())) <= MAX_PROPERTY_CHARS


def test_the_application_takes_its_properties() -> None:
    """An unknown or bad MODEL_API_ property would keep the application from starting."""
    properties = {**EXTENSIONS.option_settings[ENVIRONMENT], **SAVED[ENVIRONMENT]}
    settings = Settings.from_env(properties)
    assert settings.efs_root == Path("/efs")
    assert settings.models == ("minilm", "sentiment")


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
