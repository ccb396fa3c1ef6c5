"""scripts/create-efs: the file system's stack, the jobs', and the saved configurations of environments.

Run again, it changes what is said and nothing else: what was said before is kept in the stack. An empty value takes a
thing back: --property NAME=, --certificate ''.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model_api.repository.keys import make_token
from scripts.beanstalk.saved_configuration import (
    CACHE_SECRET,
    INSTANCE_TYPES,
    Choices,
    publisher_ssh_config,
    saved_configuration,
    shares_cache,
    worker_configuration,
)

ROOT = Path(__file__).resolve().parents[2]
SAVED_CONFIGURATIONS = ROOT / ".elasticbeanstalk" / "saved_configs"
WORKER_CONFIG = "worker"  # the saved configuration of the worker environment
LATEST_IMAGE = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64"


def parse(argv: Sequence[str]) -> argparse.Namespace:
    head, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(prog="scripts/create-efs", description=head, epilog=rest)
    parser.add_argument("--stack", default="model-api-efs", help="the stack's name (default: %(default)s)")
    parser.add_argument("--region", help="AWS region (default: as the aws command is configured)")
    parser.add_argument("--vpc", help="the VPC to use (default: the account's default VPC)")
    parser.add_argument("--subnet", action="append", default=[], help="a subnet, one per zone; may be repeated")
    for flag, purpose in (
        ("--private", "private subnets: give instances no public address"),
        ("--internal", "a load balancer that only the VPC reaches"),
        ("--publisher", "a publisher host in the stack (default: yes)"),
        ("--jobs", "a table, a bucket and a queue for a fleet's jobs, and a worker's configuration"),
        ("--open", "let anybody call who reaches the environment: it asks for no key (default: it does)"),
    ):
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, help=purpose)
    parser.add_argument("--new-key", action="store_true", help="make another first key, and forget the one before")
    parser.add_argument("--alarm-email", metavar="ADDRESS", help="who hears of alarms and of the environment's events")
    parser.add_argument("--arch", choices=list(INSTANCE_TYPES), help="the instances' processor (default: x86_64)")
    parser.add_argument("--certificate", metavar="ARN", help="serve HTTPS with this certificate, and HTTP no more")
    for option, metavar, purpose in (
        ("--secret", "NAME=ARN", "a property whose value is that secret's"),
        ("--property", "NAME=VALUE", "a further environment property"),
    ):
        parser.add_argument(option, metavar=metavar, action="append", default=[], type=_pair, help=purpose)
    parser.add_argument("--jobs-stack", default="model-api-jobs", help="the name of their stack (default: %(default)s)")
    parser.add_argument(
        "--scale-workers", metavar="ENVIRONMENT", help="let that worker environment follow the queue's depth"
    )
    parser.add_argument("--config", default="default", help="saved configuration to write; eb takes `default` unasked")
    return parser.parse_args(argv)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def decide(arguments: argparse.Namespace, before: Mapping[str, str]) -> Choices:
    """What was said before, as the stack's parameters tell it, and what is said now on top."""
    told: dict[str, Any] = json.loads(before.get("Choices") or "{}")
    said = {
        "arch": arguments.arch,
        "certificate_arn": arguments.certificate,
        "public_instances": None if arguments.private is None else not arguments.private,
        "internal": arguments.internal,
        "publisher": arguments.publisher,
        "jobs": True if arguments.scale_workers else arguments.jobs,
        "open": arguments.open,
        "alarm_email": arguments.alarm_email,
    }
    told.update({name: value for name, value in said.items() if value is not None})
    for name, pairs in (("secrets", arguments.secret), ("properties", arguments.property)):
        told[name] = {key: value for key, value in {**told.get(name, {}), **dict(pairs)}.items() if value}
    return Choices(**told)


def with_first_key(choices: Choices, *, anew: bool = False) -> tuple[Choices, str | None]:
    """With a key that may do everything, unless there is one or none is asked for; the key itself, if it is made here.
    The stack and the environment only get to know its hash."""
    if choices.open or (choices.first_key is not None and not anew):
        return choices, None
    key_id, token, sha256 = make_token()
    return dataclasses.replace(choices, first_key=f"{key_id}:{sha256}"), token


def stack_parameters(
    choices: Choices, vpc_id: str, subnets: Mapping[str, str], before: Mapping[str, str], ssm: Any
) -> dict[str, str]:
    """What the template is given. The publisher host's image and place stay what they were: either would replace it."""
    return {
        "VpcId": vpc_id,
        **{f"Subnet{letter.upper()}": subnet_id for letter, subnet_id in subnets.items()},
        "Publisher": str(choices.publisher).lower(),
        "PublisherSubnet": before.get("PublisherSubnet") or next(iter(subnets.values())),
        "PublisherImage": before.get("PublisherImage") or ssm.get_parameter(Name=LATEST_IMAGE)["Parameter"]["Value"],
        "PublisherPublicIp": str(choices.public_instances).lower(),
        "SecretArns": ",".join(choices.secrets.values()),
        "AlarmEmail": choices.alarm_email or "",
        "Choices": json.dumps(dataclasses.asdict(choices)),
    }


def create(arguments: argparse.Namespace) -> None:
    """All of it. SystemExit, or an exception of botocore's."""
    import boto3
    import yaml

    from scripts.beanstalk.network import network, zones_with
    from scripts.beanstalk.stack import EFS_TEMPLATE, Stack

    session = boto3.Session(region_name=arguments.region)
    if session.region_name is None:
        raise SystemExit("create-efs: no region is configured; give --region")
    ec2, stack = session.client("ec2"), Stack(session.client("cloudformation"), arguments.stack, EFS_TEMPLATE)
    before = stack.parameters()
    known = {key[-1].lower(): value for key, value in before.items() if key[:-1] == "Subnet" and value}
    choices, token = with_first_key(decide(arguments, before), anew=arguments.new_key)
    usable = zones_with(ec2, instance_types(choices.arch))
    vpc_id, subnets = network(ec2, arguments.vpc or before.get("VpcId"), arguments.subnet, known, usable)
    makes_secret = shares_cache(choices.properties, choices.secrets) and not {
        CACHE_SECRET,
        "MODEL_API_CACHE_TRUSTED",
    } & {*choices.properties, *choices.secrets}
    parameters = stack_parameters(choices, vpc_id, subnets, before, session.client("ssm"))
    outputs = stack.put({**parameters, "CacheSecret": str(makes_secret).lower()})
    if token is not None:  # at once: it can't be told later, whatever goes wrong from here on
        print(f"create-efs: the first key, which may do everything; it is kept nowhere, so keep it now:\n\n{token}\n")
    if makes_secret:
        secrets = {**choices.secrets, CACHE_SECRET: outputs["CacheSecretArn"]}
        choices = dataclasses.replace(choices, secrets=secrets)
    if choices.jobs:
        outputs |= jobs_stack(arguments, choices, session, outputs["InstanceRoleName"])
    written = {arguments.config: saved_configuration(outputs, vpc_id, list(subnets.values()), choices)}
    if choices.jobs:
        written[WORKER_CONFIG] = worker_configuration(outputs, vpc_id, list(subnets.values()), choices)
    SAVED_CONFIGURATIONS.mkdir(parents=True, exist_ok=True)
    for name, document in written.items():
        path = SAVED_CONFIGURATIONS / f"{name}.cfg.yml"
        path.write_text(yaml.safe_dump(document))
        tier = " -t worker" if name == WORKER_CONFIG else ""
        print(f"create-efs: wrote {path.relative_to(ROOT)}; next: eb create NAME{tier} --cfg {name}")
    if "PublisherInstanceId" in outputs:
        print("create-efs: for authors' ~/.ssh/config:\n")
        print(publisher_ssh_config(outputs["PublisherInstanceId"], session.region_name))


def jobs_stack(arguments: argparse.Namespace, choices: Choices, session: Any, instance_role: str) -> dict[str, str]:
    """The outputs of the jobs' stack, created or updated. What scales stays what it was."""
    from scripts.beanstalk.stack import JOBS_TEMPLATE, Stack

    stack = Stack(session.client("cloudformation"), arguments.jobs_stack, JOBS_TEMPLATE)
    before = stack.parameters()
    group = before.get("WorkerGroup", "")
    if arguments.scale_workers:
        found = session.client("elasticbeanstalk").describe_environment_resources(
            EnvironmentName=arguments.scale_workers
        )
        groups = found["EnvironmentResources"]["AutoScalingGroups"]
        if not groups:
            raise SystemExit(f"create-efs: {arguments.scale_workers} has no Auto Scaling group yet")
        group = groups[0]["Name"]
    email = choices.alarm_email or ""
    return stack.put({"InstanceRole": instance_role, "AlarmEmail": email, "WorkerGroup": group})


def instance_types(arch: str) -> list[str]:
    """What environments of that processor run on: as the saved configuration says, else as .ebextensions does."""
    import yaml

    chosen = INSTANCE_TYPES[arch]
    if chosen is None:
        options = yaml.safe_load((ROOT / ".ebextensions/10-environment.config").read_text())["option_settings"]
        chosen = str(options["aws:ec2:instances"]["InstanceTypes"])
    return [name.strip() for name in chosen.split(",")]


def main(argv: Sequence[str]) -> None:
    arguments = parse(argv)
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        create(arguments)
    except NoCredentialsError:
        raise SystemExit("create-efs: no AWS credentials are configured; `aws configure` sets them") from None
    except (BotoCoreError, ClientError) as error:
        raise SystemExit(f"create-efs: {error}") from None


if __name__ == "__main__":
    main(sys.argv[1:])
