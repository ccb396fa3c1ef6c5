"""scripts/create-efs again and again: it is repeatable, and says in a line what it can't do."""

import dataclasses
import json
import os
import subprocess
from collections import defaultdict
from typing import Any

import pytest

from model_api.repository.keys import TOKEN_PATTERN, hash_of
from model_api.settings import Settings
from model_api.settings.keys import first_key
from scripts.beanstalk.create_efs import decide, parse, stack_parameters, with_first_key
from scripts.beanstalk.network import network, zones_with
from scripts.beanstalk.saved_configuration import (
    ENVIRONMENT,
    SECRETS,
    Choices,
    saved_configuration,
    worker_configuration,
)
from scripts.beanstalk.stack import EFS_TEMPLATE, Stack
from scripts.rehearsal.upload import DEPLOY_BIN
from tests.needs import missing
from tests.rigs.project import ROOT

# Runs where boto3 and moto are. Each line of standard input is one call's arguments; the stack's parameters come back.
DRIVER = """
import json, pathlib, sys, tempfile
import boto3
from moto import mock_aws
from moto.efs.models import AccessPoint, FileSystem
from scripts.beanstalk import create_efs
from scripts.rehearsal.cloud import arn_attribute
for resource in (AccessPoint, FileSystem):  # which moto lacks
    resource.get_cfn_attribute = arn_attribute
create_efs.ROOT = create_efs.SAVED_CONFIGURATIONS = pathlib.Path(tempfile.mkdtemp())
create_efs.instance_types = lambda arch: ["m7i.large"]
with mock_aws():
    ec2 = boto3.client("ec2", "eu-central-1")
    subnets = {s["AvailabilityZone"][-1]: s["SubnetId"] for s in ec2.describe_subnets()["Subnets"]}
    for line in sys.stdin:
        create_efs.main([subnets.get(word, word) for word in json.loads(line)])
        stack = boto3.client("cloudformation", "eu-central-1").describe_stacks()["Stacks"][0]
        parameters = {p["ParameterKey"]: p["ParameterValue"] for p in stack["Parameters"]}
        letters = {subnet: letter for letter, subnet in subnets.items()}
        print("RESULT", json.dumps({k: letters.get(v, v) for k, v in parameters.items()}))
"""


def runs(*calls: list[str]) -> list[dict[str, str]]:
    if not (DEPLOY_BIN / "cfn-lint").exists():
        missing("scripts/setup-deploy --dev has not been run")
    done = subprocess.run(
        [DEPLOY_BIN / "python", "-c", DRIVER],
        input="".join(json.dumps(["--region", "eu-central-1", *call]) + "\n" for call in calls),
        env={**os.environ, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.removeprefix("RESULT ") for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    return [json.loads(line) for line in lines]


class FakeEc2:
    """A VPC with a subnet in each of three zones, and one in a Local Zone."""

    def describe_vpcs(self, **_: Any) -> dict[str, Any]:
        return {"Vpcs": [{"VpcId": "vpc-1"}]}

    def describe_availability_zones(self, **_: Any) -> dict[str, Any]:
        return {"AvailabilityZones": [{"ZoneName": f"us-east-1{letter}"} for letter in "abc"]}

    def describe_subnets(self, **_: Any) -> dict[str, Any]:
        zones = ("us-east-1a", "us-east-1b", "us-east-1c", "us-east-1-bos-1a")
        return {"Subnets": [{"AvailabilityZone": zone, "SubnetId": f"subnet-{zone[9:]}"} for zone in zones]}

    def describe_instance_type_offerings(self, **_: Any) -> dict[str, Any]:
        return {"InstanceTypeOfferings": [{"Location": f"us-east-1{letter}"} for letter in "ab"]}


ZONES = {f"us-east-1{letter}" for letter in "abc"}


def test_another_choice_of_subnets_moves_no_mount_target() -> None:
    _, named = network(FakeEc2(), None, ["subnet-b", "subnet-c"], {}, ZONES)
    assert named == {"b": "subnet-b", "c": "subnet-c"}
    _, again = network(FakeEc2(), None, [], {"b": "subnet-other", "c": "subnet-c"}, ZONES)
    assert again == {"a": "subnet-a", "b": "subnet-other", "c": "subnet-c"}  # what is there stays, and no Local Zone
    _, renamed = network(FakeEc2(), None, ["subnet-b"], {"b": "subnet-other", "c": "subnet-c"}, ZONES)
    assert renamed == {"b": "subnet-b", "c": "subnet-c"}


def test_a_subnet_that_cannot_be_used_is_named() -> None:
    with pytest.raises(SystemExit, match=r"subnet--bos-1a: .* Local Zone"):
        network(FakeEc2(), None, ["subnet-a", "subnet--bos-1a"], {}, ZONES)


def test_a_zone_without_the_instance_types_is_passed_over_or_told() -> None:
    usable = zones_with(FakeEc2(), ["m7i.large"])
    assert usable == {"us-east-1a", "us-east-1b"}
    assert network(FakeEc2(), None, [], {}, usable)[1] == {"a": "subnet-a", "b": "subnet-b"}
    with pytest.raises(SystemExit, match=r"subnet-c: .* none of the instance types"):
        network(FakeEc2(), None, ["subnet-c"], {}, usable)


@pytest.mark.integration
def test_a_later_run_keeps_the_publisher_host_and_who_hears_of_alarms() -> None:
    first, second = runs(["--alarm-email", "ops@example.org"], [])
    assert json.loads(first["Choices"])["first_key"].startswith("mk_")
    assert second["Choices"] == first["Choices"]
    assert first["PublisherImage"].startswith("ami-")
    assert second["PublisherImage"] == first["PublisherImage"]
    assert second["AlarmEmail"] == "ops@example.org"


def decided(*runs: str) -> Choices:
    """What the last of several runs decides."""
    before: dict[str, str] = {}
    choices = Choices()
    for words in runs:
        choices = decide(parse(words.split()), before)
        before = stack_parameters(choices, "vpc-1", {"a": "subnet-a"}, {"PublisherImage": "ami-1"}, None)
    return choices


ALL = (
    "--private --internal --no-publisher --jobs --arch arm64 --certificate arn:c --alarm-email a@example.org"
    " --secret S=arn:s --property P=1 --property Q=a=b"
)


def test_a_run_with_fewer_arguments_takes_nothing_back() -> None:
    assert decided(ALL, "") == decided(ALL) == decided(ALL, "", "--property P=1")
    assert decided(ALL) == Choices(
        arch="arm64",
        certificate_arn="arn:c",
        secrets={"S": "arn:s"},
        properties={"P": "1", "Q": "a=b"},
        public_instances=False,
        internal=True,
        publisher=False,
        alarm_email="a@example.org",
        jobs=True,
    )


def test_the_first_key_is_made_once_and_told_once() -> None:
    choices, token = with_first_key(decided(""))
    assert token is not None
    key = TOKEN_PATTERN.fullmatch(token)
    assert key
    assert choices.first_key == f"{key[1]}:{hash_of(key[2])}"
    before = stack_parameters(choices, "vpc-1", {"a": "subnet-a"}, {"PublisherImage": "ami-1"}, None)
    assert token.removeprefix(key[1]) not in json.dumps(before)  # the stack keeps its hash alone
    again, another = with_first_key(decide(parse([]), before))
    assert (again, another) == (choices, None)
    anew, another = with_first_key(decide(parse(["--new-key"]), before), anew=True)
    assert another is not None
    assert anew.first_key != choices.first_key


def test_the_environment_asks_for_a_key_unless_it_is_said_to_be_open() -> None:
    choices, token = with_first_key(decided(""))
    for make in (saved_configuration, worker_configuration):
        properties = make(defaultdict(str), "vpc-1", ["subnet-a"], choices)["OptionSettings"][ENVIRONMENT]
        settings = Settings.from_env({k: v for k, v in properties.items() if k.startswith("MODEL_API_") and v})
        assert settings.auth == "required"
        key = first_key(settings)
        assert key is not None
        assert token is not None
        assert hash_of(token.removeprefix(f"{key.id}_")) == key.sha256
    opened, none = with_first_key(decided("--open"))
    assert none is None
    properties = saved_configuration(defaultdict(str), "vpc-1", ["subnet-a"], opened)["OptionSettings"][ENVIRONMENT]
    assert properties["MODEL_API_AUTH"] == "open"
    assert "MODEL_API_FIRST_KEY" not in properties
    closed, token = with_first_key(decided("--open", "--no-open"))
    assert token is not None
    assert not closed.open


def test_who_scales_workers_has_jobs() -> None:
    assert decided("--scale-workers model-api-workers").jobs
    assert not decided("").jobs


def test_what_is_said_again_counts_and_nothing_takes_it_back() -> None:
    back = (
        "--no-private --no-internal --publisher --no-jobs --arch x86_64 --certificate= --alarm-email= --secret S="
        " --property P="
    )
    choices = decided(ALL, back)
    assert choices.properties == {"Q": "a=b"}
    assert (choices.certificate_arn, choices.alarm_email) == ("", "")
    assert dataclasses.replace(choices, properties={}, certificate_arn=None, alarm_email=None) == Choices()
    saved = saved_configuration(defaultdict(str), "vpc-1", ["subnet-a"], choices)["OptionSettings"]
    assert not [name for name in saved if "listener" in name or "sns" in name or name == SECRETS]


@pytest.mark.integration
def test_without_credentials_it_says_so_in_one_line() -> None:
    if not (DEPLOY_BIN / "cfn-lint").exists():
        missing("scripts/setup-deploy --dev has not been run")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    done = subprocess.run(
        [DEPLOY_BIN / "python", "-m", "scripts.beanstalk.create_efs", "--region", "eu-central-1"],
        env={**environment, "AWS_EC2_METADATA_DISABLED": "true", "HOME": "/nonexistent"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "no AWS credentials" in done.stderr


class FakeCloudFormation:
    """Just what Stack calls; a creation that failed before lies there. Stands in for what moto can't bring about."""

    class exceptions:  # noqa: N801 - as boto3 has it
        ClientError = RuntimeError

    def __init__(self, *statuses: str | None) -> None:
        self.status, *self.later = statuses
        self.calls: list[str] = []

    def describe_stacks(self, StackName: str) -> dict[str, Any]:  # noqa: N803
        status = self.status
        if self.later:
            self.status = self.later.pop(0)
        if status is None:
            raise RuntimeError(f"Stack with id {StackName} does not exist")
        return {"Stacks": [{"StackStatus": status, "Parameters": [], "Outputs": []}]}

    def create_stack(self, **request: Any) -> None:
        self.calls.append("create")
        self.status = "CREATE_COMPLETE"

    def update_stack(self, **request: Any) -> None:
        self.calls.append("update")

    def update_termination_protection(self, StackName: str, EnableTerminationProtection: bool) -> None:  # noqa: N803
        self.calls.append("unprotect")
        assert not EnableTerminationProtection

    def delete_stack(self, StackName: str) -> None:  # noqa: N803
        assert self.calls[-1] == "unprotect"
        self.calls.append("delete")
        self.status = None

    def get_waiter(self, name: str) -> "FakeCloudFormation":
        return self

    def wait(self, StackName: str) -> None:  # noqa: N803
        self.calls.append("wait")


@pytest.mark.parametrize(
    ("status", "calls"),
    [
        (None, ["create", "wait"]),
        ("CREATE_COMPLETE", ["update", "wait"]),
        ("UPDATE_ROLLBACK_COMPLETE", ["update", "wait"]),
        ("ROLLBACK_COMPLETE", ["unprotect", "delete", "wait", "create", "wait"]),
        ("CREATE_FAILED", ["unprotect", "delete", "wait", "create", "wait"]),
    ],
)
def test_a_stack_that_never_came_up_is_cleared_away(status: str | None, calls: list[str]) -> None:
    cloudformation = FakeCloudFormation(status)
    Stack(cloudformation, "model-api-efs", EFS_TEMPLATE).put({"VpcId": "vpc-1"})
    assert cloudformation.calls == calls


@pytest.mark.parametrize(
    ("statuses", "calls"),
    [
        (["CREATE_IN_PROGRESS", "CREATE_IN_PROGRESS", "CREATE_COMPLETE"], ["update", "wait"]),
        (["UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_COMPLETE"], ["update", "wait"]),
        (["ROLLBACK_IN_PROGRESS", "ROLLBACK_COMPLETE"], ["unprotect", "delete", "wait", "create", "wait"]),
        (["DELETE_IN_PROGRESS", None], ["create", "wait"]),
        (["REVIEW_IN_PROGRESS"], ["unprotect", "delete", "wait", "create", "wait"]),
    ],
)
def test_what_an_interrupted_run_began_is_waited_for(statuses: list[str | None], calls: list[str]) -> None:
    cloudformation = FakeCloudFormation(*statuses)
    Stack(cloudformation, "model-api-efs", EFS_TEMPLATE, look_every_s=0).put({"VpcId": "vpc-1"})
    assert cloudformation.calls == calls
