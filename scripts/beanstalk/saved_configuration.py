"""Saved configurations: what an environment needs to know of the account, and what `eb create` would override.

With a saved configuration `eb create` sends no defaults of its own (it would send SystemType, BatchSize,
RollingUpdateEnabled and more, which beat .ebextensions), so those of its options that matter stand here. So does what
only one of the two tiers knows: the same .ebextensions go to both, and an option that an environment doesn't know would
fail its deployment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ENVIRONMENT = "aws:elasticbeanstalk:application:environment"
SECRETS = "aws:elasticbeanstalk:application:environmentsecrets"
SQSD = "aws:elasticbeanstalk:sqsd"
CACHE, CACHE_SECRET = "MODEL_API_CACHE", "MODEL_API_CACHE_SECRET"
NOTIFY_SECRET = "MODEL_API_NOTIFY_SECRET"  # noqa: S105 - the name of a property
INSTANCE_TYPES = {"x86_64": None, "arm64": "m8g.large, m7g.large"}  # None: as .ebextensions says
Options = dict[str, dict[str, str]]

WEB: Mapping[str, Mapping[str, str]] = {
    "aws:elasticbeanstalk:environment:process:default": {
        # Ready means that the models are loaded. Liveness (/healthz) would let traffic in too early.
        "HealthCheckPath": "/readyz",
        "HealthCheckInterval": "5",
        "HealthCheckTimeout": "4",
        "HealthyThresholdCount": "2",
        "UnhealthyThresholdCount": "2",
        "MatcherHTTPCode": "200",
        "Port": "80",
        "Protocol": "HTTP",
        # This and the next belong to the limits of .ebextensions/20-limits.config.
        "DeregistrationDelay": "45",
    },
    "aws:elbv2:loadbalancer": {"IdleTimeout": "50"},
}
WORKER: Mapping[str, Mapping[str, str]] = {
    # One to begin with; then the queue's depth decides (scripts/create-efs --scale-workers). Beanstalk's own trigger
    # can't watch a queue, so it is set to do nothing.
    "aws:autoscaling:asg": {"MinSize": "1", "MaxSize": "4"},
    "aws:autoscaling:trigger": {"UpperThreshold": "101", "LowerThreshold": "0"},
    "aws:elasticbeanstalk:application": {"Application Healthcheck URL": "/readyz"},
    # The daemon posts a message and waits until its job is over, for half an hour at most. One that takes longer is
    # posted again, is found to be running, and answered at once.
    SQSD: {
        "HttpPath": "/worker/jobs",
        "MimeType": "application/json",
        "HttpConnections": "2",  # as many jobs at a time
        "ConnectTimeout": "5",
        "InactivityTimeout": "1800",
        "VisibilityTimeout": "1830",
        "ErrorVisibilityTimeout": "30",
    },
}


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What the owner decides; see `scripts/create-efs --help`."""

    arch: str = "x86_64"
    certificate_arn: str | None = None
    secrets: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    public_instances: bool = True
    publisher: bool = True
    internal: bool = False
    alarm_email: str | None = None
    jobs: bool = False
    open: bool = False  # nobody needs a key
    first_key: str | None = None  # its id and hash, as MODEL_API_FIRST_KEY has them


def saved_configuration(
    outputs: Mapping[str, str], vpc_id: str, subnet_ids: Sequence[str], choices: Choices
) -> dict[str, Any]:
    """Of a web environment: the document of .elasticbeanstalk/saved_configs/NAME.cfg.yml. `outputs` are those of
    efs_layout/efs.yaml, with those of jobs.yaml where that stack is."""
    options = _common(outputs, vpc_id, subnet_ids, choices)
    options["aws:ec2:vpc"]["ELBSubnets"] = ",".join(subnet_ids)
    options["aws:elasticbeanstalk:environment"]["LoadBalancerType"] = "application"
    options |= {namespace: dict(values) for namespace, values in WEB.items()}
    if choices.certificate_arn:
        options["aws:elbv2:listener:443"] = {
            "ListenerEnabled": "true",
            "Protocol": "HTTPS",
            "SSLCertificateArns": choices.certificate_arn,
            "SSLPolicy": "ELBSecurityPolicy-TLS13-1-2-2021-06",
        }
        options["aws:elbv2:listener:default"] = {"ListenerEnabled": "false"}
    if choices.internal:
        options["aws:ec2:vpc"]["ELBScheme"] = "internal"
    return _document("WebServer", "Standard", options)


def worker_configuration(
    outputs: Mapping[str, str], vpc_id: str, subnet_ids: Sequence[str], choices: Choices
) -> dict[str, Any]:
    """Of a worker environment. `outputs` are those of both stacks."""
    options = _common(outputs, vpc_id, subnet_ids, choices)
    options |= {namespace: dict(values) for namespace, values in WORKER.items()}
    options[SQSD]["WorkerQueueURL"] = outputs["QueueUrl"]
    options[ENVIRONMENT] |= {"MODEL_API_ROLE": "worker", "MODEL_API_PROXY_HOPS": "1"}
    return _document("Worker", "SQS/HTTP", options)


def _common(outputs: Mapping[str, str], vpc_id: str, subnet_ids: Sequence[str], choices: Choices) -> Options:
    """What both tiers need."""
    properties, secrets = _properties(outputs) | _who_calls(choices), dict(choices.secrets)
    if "NotifySecretArn" in outputs and NOTIFY_SECRET not in choices.properties:
        secrets.setdefault(NOTIFY_SECRET, outputs["NotifySecretArn"])
    options: Options = {
        "aws:ec2:vpc": {
            "VPCId": vpc_id,
            "Subnets": ",".join(subnet_ids),
            "AssociatePublicIpAddress": str(choices.public_instances).lower(),
        },
        "aws:autoscaling:launchconfiguration": {
            "IamInstanceProfile": outputs["InstanceProfileName"],
            "SecurityGroups": outputs["InstanceSecurityGroupId"],
        },
        "aws:elasticbeanstalk:environment": {
            "EnvironmentType": "LoadBalanced",  # of a worker: a group that scales
            "ServiceRole": outputs["ServiceRoleName"],
        },
        "aws:elasticbeanstalk:healthreporting:system": {"SystemType": "enhanced"},
        "aws:elasticbeanstalk:command": {"BatchSizeType": "Fixed", "BatchSize": "1"},
        "aws:autoscaling:updatepolicy:rollingupdate": {"RollingUpdateEnabled": "true", "RollingUpdateType": "Health"},
        ENVIRONMENT: {**properties, **choices.properties},
    }
    instance_types = INSTANCE_TYPES[choices.arch]
    if instance_types:
        options["aws:ec2:instances"] = {"InstanceTypes": instance_types, "SupportedArchitectures": choices.arch}
    if choices.alarm_email:
        options["aws:elasticbeanstalk:sns:topics"] = {
            "Notification Endpoint": choices.alarm_email,
            "Notification Protocol": "email",
        }
    if secrets:
        options[SECRETS] = secrets
    return options


def _properties(outputs: Mapping[str, str]) -> dict[str, str]:
    properties = {
        "EFS_FILE_SYSTEM_ID": outputs["FileSystemId"],
        "EFS_MODELS_ACCESS_POINT": outputs["ModelsAccessPointId"],
        "EFS_STATUS_ACCESS_POINT": outputs["StatusAccessPointId"],
    }
    if "QueueUrl" in outputs:
        properties |= {
            "MODEL_API_JOBS_TABLE": outputs["TableName"],
            "MODEL_API_JOBS_BUCKET": outputs["BucketName"],
            "MODEL_API_JOBS_QUEUE_URL": outputs["QueueUrl"],
        }
    return properties


def _who_calls(choices: Choices) -> dict[str, str]:
    """A key is asked for, unless said otherwise."""
    if choices.open:
        return {"MODEL_API_AUTH": "open"}
    return {"MODEL_API_AUTH": "required", **({"MODEL_API_FIRST_KEY": choices.first_key} if choices.first_key else {})}


def _document(tier: str, kind: str, options: Options) -> dict[str, Any]:
    return {
        "AWSConfigurationTemplateVersion": "1.1.0.0",
        "EnvironmentConfigurationMetadata": {"Description": "Written by scripts/create-efs"},
        "EnvironmentTier": {"Name": tier, "Type": kind},
        "OptionSettings": options,
    }


def shares_cache(properties: Mapping[str, str], secrets: Mapping[str, str]) -> bool:
    """Whether the instances keep answers in a Redis or Valkey, whose address may hold a password."""
    return CACHE in secrets or properties.get(CACHE, "memory").strip().lower() not in ("memory", "off")


def publisher_ssh_config(instance_id: str, region: str) -> str:
    """An entry for ~/.ssh/config: ssh, scp and rsync through Session Manager, with a key pushed for a minute."""
    return f"""\
Host model-publisher
  HostName {instance_id}
  User ec2-user
  IdentityFile ~/.ssh/id_ed25519
  StrictHostKeyChecking accept-new
  ProxyCommand sh -c "aws ec2-instance-connect send-ssh-public-key --region {region} --instance-id %h \
--instance-os-user %r --ssh-public-key file://$HOME/.ssh/id_ed25519.pub >/dev/null && \
aws ssm start-session --region {region} --target %h --document-name AWS-StartSSHSession --parameters portNumber=%p"
"""
