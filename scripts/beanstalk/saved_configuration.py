"""The saved configuration: what an environment needs to know of the account, and what `eb create` would override.

With a saved configuration `eb create` sends no defaults of its own (it would send SystemType, BatchSize,
RollingUpdateEnabled and more, which beat .ebextensions), so those of its options that matter stand here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ENVIRONMENT = "aws:elasticbeanstalk:application:environment"
SECRETS = "aws:elasticbeanstalk:application:environmentsecrets"
CACHE, CACHE_SECRET = "MODEL_API_CACHE", "MODEL_API_CACHE_SECRET"
INSTANCE_TYPES = {"x86_64": None, "arm64": "m8g.large, m7g.large"}  # None: as .ebextensions says


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


def saved_configuration(
    outputs: Mapping[str, str], vpc_id: str, subnet_ids: Sequence[str], choices: Choices
) -> dict[str, Any]:
    """The document of .elasticbeanstalk/saved_configs/NAME.cfg.yml. `outputs` are those of efs_layout/efs.yaml."""
    subnets = ",".join(subnet_ids)
    options: dict[str, dict[str, str]] = {
        "aws:ec2:vpc": {
            "VPCId": vpc_id,
            "Subnets": subnets,
            "ELBSubnets": subnets,
            "AssociatePublicIpAddress": str(choices.public_instances).lower(),
        },
        "aws:autoscaling:launchconfiguration": {
            "IamInstanceProfile": outputs["InstanceProfileName"],
            "SecurityGroups": outputs["InstanceSecurityGroupId"],
        },
        "aws:elasticbeanstalk:environment": {
            "EnvironmentType": "LoadBalanced",
            "LoadBalancerType": "application",
            "ServiceRole": outputs["ServiceRoleName"],
        },
        "aws:elasticbeanstalk:healthreporting:system": {"SystemType": "enhanced"},
        "aws:elasticbeanstalk:command": {"BatchSizeType": "Fixed", "BatchSize": "1"},
        "aws:autoscaling:updatepolicy:rollingupdate": {"RollingUpdateEnabled": "true", "RollingUpdateType": "Health"},
        ENVIRONMENT: {
            "EFS_FILE_SYSTEM_ID": outputs["FileSystemId"],
            "EFS_MODELS_ACCESS_POINT": outputs["ModelsAccessPointId"],
            "EFS_STATUS_ACCESS_POINT": outputs["StatusAccessPointId"],
            **choices.properties,
        },
    }
    instance_types = INSTANCE_TYPES[choices.arch]
    if instance_types:
        options["aws:ec2:instances"] = {"InstanceTypes": instance_types, "SupportedArchitectures": choices.arch}
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
    if choices.alarm_email:
        options["aws:elasticbeanstalk:sns:topics"] = {
            "Notification Endpoint": choices.alarm_email,
            "Notification Protocol": "email",
        }
    if choices.secrets:
        options[SECRETS] = dict(choices.secrets)
    return {
        "AWSConfigurationTemplateVersion": "1.1.0.0",
        "EnvironmentConfigurationMetadata": {"Description": "Written by scripts/create-efs"},
        "EnvironmentTier": {"Name": "WebServer", "Type": "Standard"},
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
