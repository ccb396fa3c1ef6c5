"""efs_layout/efs.yaml: lint, and the promises that a lint doesn't know."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from model_api.publishing import changes as store_changes
from model_api.repository import layout as repository
from model_api.repository.manifest import NAME_PATTERN
from scripts.beanstalk.saved_configuration import shares_cache
from scripts.beanstalk.stack import JOBS_TEMPLATE
from scripts.beanstalk.template import read_template
from scripts.rehearsal.upload import DEPLOY_BIN
from tests.needs import missing
from tests.rigs.project import ROOT

TEMPLATE = ROOT / "efs_layout" / "efs.yaml"
AUTHOR_TEMPLATE = ROOT / "efs_layout" / "author.yaml"


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    document = read_template(TEMPLATE)
    return dict(document["Resources"])


def statements(resources: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return list(resources[name]["Properties"]["PolicyDocument"]["Statement"])


@pytest.mark.integration
def test_lint() -> None:
    if not (DEPLOY_BIN / "cfn-lint").exists():
        missing("scripts/setup-deploy --dev has not been run")
    done = subprocess.run(
        [DEPLOY_BIN / "cfn-lint", TEMPLATE, AUTHOR_TEMPLATE, JOBS_TEMPLATE], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_file_system_outlives_its_stack_and_is_kept_safe(resources: dict[str, Any]) -> None:
    file_system = resources["FileSystem"]
    assert (file_system["DeletionPolicy"], file_system["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")
    properties = file_system["Properties"]
    assert properties["Encrypted"] is True
    assert properties["ThroughputMode"] == "elastic"
    assert properties["BackupPolicy"] == {"Status": "ENABLED"}


def test_nobody_comes_in_without_tls_an_access_point_and_an_identity(resources: dict[str, Any]) -> None:
    policy = resources["FileSystem"]["Properties"]["FileSystemPolicy"]["Statement"]
    denied = [statement.get("Condition") for statement in policy if statement["Effect"] == "Deny"]
    assert {"Bool": {"aws:SecureTransport": "false"}} in denied
    assert {"Null": {"elasticfilesystem:AccessPointArn": "true"}} in denied
    allowed = [statement["Principal"] for statement in policy if statement["Effect"] == "Allow"]
    assert {"AWS": "*"} not in allowed
    assert "*" not in allowed


def test_instances_write_to_the_status_folder_alone(resources: dict[str, Any]) -> None:
    writing = [s for s in statements(resources, "InstancePolicy") if "ClientWrite" in str(s["Action"])]
    (condition,) = [statement["Condition"]["StringEquals"] for statement in writing]
    assert condition == {"elasticfilesystem:AccessPointArn": {"GetAtt": "StatusAccessPoint.Arn"}}


def test_no_policy_lets_anybody_be_root(resources: dict[str, Any]) -> None:
    for name in ("InstancePolicy", "PublisherPolicy"):
        assert "ClientRootAccess" not in str(statements(resources, name))
        assert "elasticfilesystem:*" not in str(statements(resources, name))


def test_the_access_points_share_one_user(resources: dict[str, Any]) -> None:
    points = [r["Properties"] for r in resources.values() if r["Type"] == "AWS::EFS::AccessPoint"]
    assert len(points) == 3
    assert all(point["PosixUser"] == {"Uid": "900", "Gid": "900"} for point in points)


def test_an_author_s_own_access_point_shows_one_model_and_its_policy_no_other() -> None:
    document = read_template(AUTHOR_TEMPLATE)
    own = dict(document["Resources"])
    point = own["AccessPoint"]["Properties"]
    assert point["RootDirectory"]["Path"] == {"Sub": "/store/models/${Model}"}
    assert point["PosixUser"]["Uid"] == {"Ref": "Uid"}  # not 900: it can't write what others made
    (statement,) = statements(own, "AuthorPolicy")
    assert statement["Condition"]["StringEquals"]["elasticfilesystem:AccessPointArn"] == {"GetAtt": "AccessPoint.Arn"}
    assert document["Parameters"]["Model"]["AllowedPattern"] == NAME_PATTERN.pattern


def test_instances_alone_read_the_fleet_s_secret(resources: dict[str, Any]) -> None:
    (statement,) = statements(resources, "FleetSecretPolicy")
    assert statement["Resource"] == {"Ref": "FleetSecret"}
    assert "FleetSecretPolicy" in str(resources["InstanceRole"])
    assert "FleetSecret" not in str(resources["PublisherRole"]) + str(resources["PublisherPolicy"])
    assert resources["FleetSecret"]["Properties"]["GenerateSecretString"]["PasswordLength"] >= 32


@pytest.mark.parametrize(
    ("properties", "secrets", "shared"),
    [
        ({}, {}, False),
        ({"MODEL_API_CACHE": "memory"}, {}, False),
        ({"MODEL_API_CACHE": "rediss://cache:6379"}, {}, True),
        ({}, {"MODEL_API_CACHE": "arn:aws:secretsmanager:eu-west-1:1:secret:url"}, True),
    ],
)
def test_a_secret_is_made_where_a_cache_is_shared(
    properties: dict[str, str], secrets: dict[str, str], shared: bool
) -> None:
    assert shares_cache(properties, secrets) is shared


def test_no_port_is_open_but_nfs_between_the_groups(resources: dict[str, Any]) -> None:
    groups = {name: r["Properties"] for name, r in resources.items() if r["Type"] == "AWS::EC2::SecurityGroup"}
    open_in = {name: group["SecurityGroupIngress"] for name, group in groups.items() if "SecurityGroupIngress" in group}
    assert list(open_in) == ["MountTargetSecurityGroup"]
    assert all(rule["FromPort"] == rule["ToPort"] == 2049 for rule in open_in["MountTargetSecurityGroup"])
    assert all("SourceSecurityGroupId" in rule for rule in open_in["MountTargetSecurityGroup"])


def test_the_publisher_host_takes_imds_v2_only(resources: dict[str, Any]) -> None:
    assert resources["PublisherHost"]["Properties"]["MetadataOptions"]["HttpTokens"] == "required"


def test_the_publisher_host_writes_the_marker_that_readers_look_for(resources: dict[str, Any], tmp_path: Path) -> None:
    user_data = resources["PublisherHost"]["Properties"]["UserData"]["Fn::Base64"]["Sub"]
    start = user_data.index("if [ ! -e /efs/.model-store ]")
    script = user_data[start : user_data.index("fi\n", start) + 3].replace("/efs", str(tmp_path))
    subprocess.run(["bash", "-euc", script], check=True)
    repository.mount_check(tmp_path)
    assert store_changes.init(tmp_path) is False
