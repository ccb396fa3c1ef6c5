"""AWS as far as the eb command needs it: moto's server, plus the Beanstalk actions that moto lacks.

usage: python -m scripts.rehearsal.cloud PORT JOURNAL_FOLDER      (in .venvs/deploy; loopback only)

It notes every Beanstalk call in JOURNAL_FOLDER/calls.jsonl and keeps each uploaded bundle as JOURNAL_FOLDER/LABEL.zip.
An environment is ready at once: what an instance does with a bundle is the rehearsal's part, not this one's.
"""

import datetime as dt
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from moto.core.common_models import CloudFormationModel
from moto.core.responses import ActionResult
from moto.efs.models import AccessPoint, FileSystem
from moto.elasticbeanstalk.exceptions import InvalidParameterValueError
from moto.elasticbeanstalk.responses import EBResponse
from moto.s3.models import s3_backends
from moto.server import main as serve

from scripts.rehearsal.cloud_names import BRANCH, STACK

PLATFORM_ARN = f"arn:aws:elasticbeanstalk:us-east-1::platform/{BRANCH}/4.9.2"
TIERS = ["WebServer/Standard", "Worker/SQS/HTTP"]
PLATFORM = {
    "PlatformArn": PLATFORM_ARN,
    "PlatformOwner": "AWSElasticBeanstalk",
    "PlatformStatus": "Ready",
    "PlatformCategory": "Python",
    "PlatformVersion": "4.9.2",
    "PlatformBranchName": BRANCH,
    "PlatformBranchLifecycleState": "Supported",
    "PlatformLifecycleState": "Recommended",
    "OperatingSystemName": "Amazon Linux",
    "OperatingSystemVersion": "2023",
    "SupportedTierList": TIERS,
}
Options = dict[str, dict[str, str]]  # namespace, option name, value


def arn_attribute(resource: AccessPoint | FileSystem, name: str) -> str:
    """Fn::GetAtt of the two, which moto's CloudFormation lacks."""
    assert name == "Arn"
    return str(resource.file_system_arn if isinstance(resource, FileSystem) else resource.access_point_arn)


class Secret(CloudFormationModel):  # type: ignore[misc] # moto isn't where types are checked
    """AWS::SecretsManager::Secret in a stack, which moto's CloudFormation lacks: an ARN, and nothing behind it."""

    __module__ = "moto.secretsmanager.stacks"  # which moto tells the service by

    def __init__(self, name: str, account: str, region: str) -> None:
        self.physical_resource_id = f"arn:aws:secretsmanager:{region}:{account}:secret:{name}-abcdef"

    @staticmethod
    def cloudformation_name_type() -> str:
        return "Name"

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::SecretsManager::Secret"

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, **kwargs: Any
    ) -> "Secret":
        return cls(resource_name, account_id, region_name)

    @classmethod
    def update_from_cloudformation_json(cls, original_resource: "Secret", *args: Any, **kwargs: Any) -> "Secret":
        return original_resource


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class Beanstalk:
    """What the added actions remember. Used on the server's request threads, one eb command at a time."""

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self.versions: dict[str, dict[str, Any]] = {}
        self.environments: dict[str, dict[str, Any]] = {}
        self.options: dict[str, Options] = {}
        self.events: list[dict[str, Any]] = []  # of the latest operation, newest first

    def note(self, action: str, parameters: dict[str, Any]) -> None:
        with (self.journal / "calls.jsonl").open("a") as file:
            file.write(json.dumps({"action": action, "parameters": parameters}, default=str) + "\n")

    def tell(self, environment: dict[str, Any], *messages: str) -> None:
        """Replace the events: the client filters by request id, and moto's is always the same."""
        common = {"ApplicationName": environment["ApplicationName"], "EnvironmentName": environment["EnvironmentName"]}
        stamped = [{**common, "Message": message, "Severity": "INFO", "EventDate": now()} for message in messages]
        self.events = stamped[::-1]

    def put_options(self, environment_name: str, settings: list[dict[str, Any]]) -> None:
        options = self.options.setdefault(environment_name, {})
        for setting in settings:
            options.setdefault(setting["Namespace"], {})[setting["OptionName"]] = str(setting.get("Value", ""))
        (self.journal / f"options-{environment_name}.json").write_text(json.dumps(options))


def bucket_of(request: EBResponse) -> Any:
    name = f"elasticbeanstalk-{request.region}-{request.current_account}"
    storage = s3_backends[request.current_account]["aws"]
    if name not in storage.buckets:
        storage.create_bucket(name, request.region)
    return storage.buckets[name]


def actions(beanstalk: Beanstalk) -> dict[str, Callable[[EBResponse], ActionResult]]:
    """The methods to add to moto's responses, by name."""

    def create_storage_location(request: EBResponse) -> ActionResult:
        return ActionResult({"S3Bucket": bucket_of(request).name})

    def list_platform_branches(request: EBResponse) -> ActionResult:
        branch = {"PlatformName": "Python", "BranchName": BRANCH, "LifecycleState": "Supported", "BranchOrder": 1}
        return ActionResult({"PlatformBranchSummaryList": [{**branch, "SupportedTierList": TIERS}]})

    def list_platform_versions(request: EBResponse) -> ActionResult:
        return ActionResult({"PlatformSummaryList": [PLATFORM]})

    def describe_platform_version(request: EBResponse) -> ActionResult:
        return ActionResult({"PlatformDescription": {**PLATFORM, "PlatformName": BRANCH, "SolutionStackName": STACK}})

    def check_dns_availability(request: EBResponse) -> ActionResult:
        prefix = request._get_params()["CNAMEPrefix"]
        return ActionResult({"Available": True, "FullyQualifiedCNAME": f"{prefix}.elasticbeanstalk.com"})

    def create_application_version(request: EBResponse) -> ActionResult:
        parameters = request._get_params()
        source = parameters["SourceBundle"]
        key = s3_backends[request.current_account]["aws"].get_object(source["S3Bucket"], source["S3Key"])
        assert key is not None
        (beanstalk.journal / f"{parameters['VersionLabel']}.zip").write_bytes(key.value)
        version = {
            "ApplicationName": parameters["ApplicationName"],
            "VersionLabel": parameters["VersionLabel"],
            "Description": parameters.get("Description"),
            "SourceBundle": source,
            "Status": "PROCESSED",
            "DateCreated": now(),
            "DateUpdated": now(),
        }
        beanstalk.versions[parameters["VersionLabel"]] = version
        return ActionResult({"ApplicationVersion": version})

    def describe_application_versions(request: EBResponse) -> ActionResult:
        wanted = request._get_params().get("VersionLabels")
        versions = [version for label, version in beanstalk.versions.items() if not wanted or label in wanted]
        return ActionResult({"ApplicationVersions": versions})

    def create_environment(request: EBResponse) -> ActionResult:
        parameters = request._get_params()
        name = parameters["EnvironmentName"]
        if "TemplateName" in parameters:
            if not (parameters.get("PlatformArn") or parameters.get("SolutionStackName")):
                raise InvalidParameterValueError("Unable to determine base for template pack (no solution stack)")
            path = f"resources/templates/{parameters['ApplicationName']}/{parameters['TemplateName']}"
            template = yaml.safe_load(bucket_of(request).keys[path].value)
            for namespace, options in template["OptionSettings"].items():
                settings = [{"Namespace": namespace, "OptionName": o, "Value": v} for o, v in options.items()]
                beanstalk.put_options(name, settings)
        beanstalk.put_options(name, parameters.get("OptionSettings", []))
        environment = {
            "EnvironmentName": name,
            "EnvironmentId": "e-abcdefghij",
            "EnvironmentArn": f"arn:aws:elasticbeanstalk:us-east-1:123456789012:environment/app/{name}",
            "ApplicationName": parameters["ApplicationName"],
            "VersionLabel": parameters.get("VersionLabel"),
            "SolutionStackName": STACK,
            "PlatformArn": PLATFORM_ARN,
            "CNAME": f"{name}.us-east-1.elasticbeanstalk.com",
            "EndpointURL": f"{name}.us-east-1.elb.amazonaws.com",
            "Tier": {"Version": "1.0", **(parameters.get("Tier") or {"Name": "WebServer", "Type": "Standard"})},
            "Status": "Ready",
            "Health": "Green",
            "HealthStatus": "Ok",
            "AbortableOperationInProgress": False,
            "DateCreated": now(),
            "DateUpdated": now(),
        }
        beanstalk.environments[name] = environment
        beanstalk.tell(environment, "createEnvironment is starting.", f"Successfully launched environment: {name}")
        return ActionResult(environment)

    def update_environment(request: EBResponse) -> ActionResult:
        parameters = request._get_params()
        environment = beanstalk.environments[parameters["EnvironmentName"]]
        beanstalk.put_options(parameters["EnvironmentName"], parameters.get("OptionSettings", []))
        environment["DateUpdated"] = now()
        messages = ["Environment update is starting."]
        if parameters.get("VersionLabel"):
            environment["VersionLabel"] = parameters["VersionLabel"]
            messages.append("New application version was deployed to running EC2 instances.")
        beanstalk.tell(environment, *messages, "Environment update completed successfully.")
        return ActionResult(environment)

    def describe_environments(request: EBResponse) -> ActionResult:
        wanted = request._get_params().get("EnvironmentNames")
        found = [one for name, one in beanstalk.environments.items() if not wanted or name in wanted]
        return ActionResult({"Environments": found})

    def describe_events(request: EBResponse) -> ActionResult:
        return ActionResult({"Events": beanstalk.events})

    def describe_environment_health(request: EBResponse) -> ActionResult:
        health = {"HealthStatus": "Ok", "Status": "Ready", "Color": "Green", "Causes": [], "RefreshedAt": now()}
        return ActionResult({**health, "EnvironmentName": request._get_params().get("EnvironmentName")})

    def describe_configuration_settings(request: EBResponse) -> ActionResult:
        parameters = request._get_params()
        name = parameters.get("EnvironmentName")
        options = beanstalk.options.get(name, {})
        settings = [
            {"Namespace": namespace, "OptionName": option, "Value": value}
            for namespace, values in options.items()
            for option, value in values.items()
        ]
        described = {"ApplicationName": parameters["ApplicationName"], "EnvironmentName": name}
        tier = {"Name": "WebServer", "Type": "Standard", "Version": "1.0"}
        platform = {"PlatformArn": PLATFORM_ARN, "SolutionStackName": STACK}
        return ActionResult(
            {"ConfigurationSettings": [{**described, **platform, "Tier": tier, "OptionSettings": settings}]}
        )

    return {name: action for name, action in locals().items() if callable(action)}


def main() -> None:
    port, journal = sys.argv[1], Path(sys.argv[2])
    beanstalk = Beanstalk(journal)
    for name, action in actions(beanstalk).items():
        setattr(EBResponse, name, action)
    for resource in (AccessPoint, FileSystem):
        resource.get_cfn_attribute = arn_attribute
    AccessPoint.physical_resource_id = property(lambda self: self.access_point_id)
    make_access_point = AccessPoint.__init__

    def with_an_id_of_real_length(self: AccessPoint, *arguments: Any, **named: Any) -> None:
        make_access_point(self, *arguments, **named)
        self.access_point_id += "0" * 9
        self.access_point_arn += "0" * 9

    AccessPoint.__init__ = with_an_id_of_real_length
    call_action = EBResponse.call_action

    def call_and_note(self: EBResponse) -> Any:
        beanstalk.note(self._get_action(), self._get_params())
        return call_action(self)

    EBResponse.call_action = call_and_note
    serve(["-H", "127.0.0.1", "-p", port])


if __name__ == "__main__":
    main()
