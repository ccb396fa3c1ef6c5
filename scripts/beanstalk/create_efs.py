"""scripts/create-efs: the file system's stack, and the saved configuration that environments are created with."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import boto3
import yaml
from botocore.exceptions import ClientError

from scripts.beanstalk.saved_configuration import (
    CACHE_SECRET,
    INSTANCE_TYPES,
    Choices,
    publisher_ssh_config,
    saved_configuration,
    shares_cache,
)

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "efs_layout" / "efs.yaml"
SAVED_CONFIGURATIONS = ROOT / ".elasticbeanstalk" / "saved_configs"
MAX_ZONES = 6  # Subnet1 ... Subnet6 of the template


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/create-efs", description=__doc__)
    parser.add_argument("--stack", default="model-api-efs", help="the stack's name (default: %(default)s)")
    parser.add_argument("--region", help="AWS region (default: as the aws command is configured)")
    parser.add_argument("--vpc", help="the VPC to use (default: the account's default VPC)")
    parser.add_argument("--subnet", action="append", default=[], help="a subnet, one per zone; may be repeated")
    parser.add_argument("--private", action="store_true", help="private subnets: give instances no public address")
    parser.add_argument("--no-publisher", action="store_true", help="no publisher host in the stack")
    parser.add_argument("--arch", choices=list(INSTANCE_TYPES), default="x86_64", help="the instances' processor")
    parser.add_argument("--certificate", metavar="ARN", help="serve HTTPS with this certificate, and HTTP no more")
    for option, metavar, purpose in (
        ("--secret", "NAME=ARN", "a property whose value is that secret's"),
        ("--property", "NAME=VALUE", "a further environment property"),
    ):
        parser.add_argument(option, metavar=metavar, action="append", default=[], type=_pair, help=purpose)
    parser.add_argument("--config", default="default", help="saved configuration to write; eb takes `default` unasked")
    return parser.parse_args(argv)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def network(ec2: Any, vpc_id: str | None, subnet_ids: Sequence[str]) -> tuple[str, list[str]]:
    """The VPC and one subnet of each of its zones, in the order of the zones. SystemExit if there is no such VPC."""
    if vpc_id is None:
        vpcs = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
        if not vpcs:
            raise SystemExit("create-efs: this account has no default VPC; name one with --vpc and --subnet")
        vpc_id = str(vpcs[0]["VpcId"])
    subnets = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])["Subnets"]
    by_zone: dict[str, str] = {}
    for subnet in sorted(subnets, key=lambda one: (one["AvailabilityZone"], one["SubnetId"])):
        if not subnet_ids or subnet["SubnetId"] in subnet_ids:
            by_zone.setdefault(subnet["AvailabilityZone"], subnet["SubnetId"])
    unused = set(subnet_ids) - set(by_zone.values())
    if unused:
        raise SystemExit(f"create-efs: not in {vpc_id}, or a second one of its zone: {', '.join(sorted(unused))}")
    if not by_zone:
        raise SystemExit(f"create-efs: {vpc_id} has no subnet")
    return vpc_id, list(by_zone.values())[:MAX_ZONES]


def put_stack(cloudformation: Any, name: str, parameters: dict[str, str]) -> dict[str, str]:
    """Create the stack, or update it; wait; its outputs. SystemExit with CloudFormation's reason if that fails."""
    request = {
        "StackName": name,
        "TemplateBody": TEMPLATE.read_text(),
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        "Capabilities": ["CAPABILITY_IAM"],
    }
    try:
        try:
            cloudformation.describe_stacks(StackName=name)
        except ClientError:
            verb = "create"
            cloudformation.create_stack(**request, EnableTerminationProtection=True)
        else:
            verb = "update"
            cloudformation.update_stack(**request)
    except ClientError as error:
        if "No updates are to be performed" not in str(error):
            raise SystemExit(f"create-efs: {error}") from None
        print(f"create-efs: stack {name} is up to date", file=sys.stderr)
    else:
        print(f"create-efs: waiting for the {verb} of stack {name} (minutes)", file=sys.stderr)
        try:
            cloudformation.get_waiter(f"stack_{verb}_complete").wait(StackName=name)
        except Exception:  # botocore's WaiterError has no public base that says more
            events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
            failed = [event for event in events if "FAILED" in event["ResourceStatus"]]
            why = [f"  {event['LogicalResourceId']}: {event.get('ResourceStatusReason')}" for event in failed]
            raise SystemExit("\n".join(["create-efs: the stack failed:", *reversed(why)])) from None
    stack = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


def main(argv: Sequence[str]) -> None:
    arguments = parse(argv)
    session = boto3.Session(region_name=arguments.region)
    if session.region_name is None:
        raise SystemExit("create-efs: no region is configured; give --region")
    vpc_id, subnet_ids = network(session.client("ec2"), arguments.vpc, arguments.subnet)
    secrets, properties = dict(arguments.secret), dict(arguments.property)
    makes_secret = shares_cache(properties, secrets) and not {CACHE_SECRET, "MODEL_API_CACHE_TRUSTED"} & {
        *properties,
        *secrets,
    }
    outputs = put_stack(
        session.client("cloudformation"),
        arguments.stack,
        {
            "VpcId": vpc_id,
            **{f"Subnet{number}": subnet_id for number, subnet_id in enumerate(subnet_ids, start=1)},
            "Publisher": "false" if arguments.no_publisher else "true",
            "PublisherPublicIp": "false" if arguments.private else "true",
            "SecretArns": ",".join(secrets.values()),
            "CacheSecret": str(makes_secret).lower(),
        },
    )
    if makes_secret:
        secrets[CACHE_SECRET] = outputs["CacheSecretArn"]
    choices = Choices(
        arch=arguments.arch,
        certificate_arn=arguments.certificate,
        secrets=secrets,
        properties=properties,
        public_instances=not arguments.private,
    )
    SAVED_CONFIGURATIONS.mkdir(parents=True, exist_ok=True)
    path = SAVED_CONFIGURATIONS / f"{arguments.config}.cfg.yml"
    path.write_text(yaml.safe_dump(saved_configuration(outputs, vpc_id, subnet_ids, choices)))
    print(f"create-efs: wrote {path.relative_to(ROOT)}; next: eb create NAME --cfg {arguments.config}")
    if "PublisherInstanceId" in outputs:
        print("create-efs: for authors' ~/.ssh/config:\n")
        print(publisher_ssh_config(outputs["PublisherInstanceId"], session.region_name))


if __name__ == "__main__":
    main(sys.argv[1:])
