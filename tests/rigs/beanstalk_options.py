"""The option settings that this project uses, as AWS documents them: type and range. No package ships such a table.

A value is a check: a string that isn't accepted means that Beanstalk would refuse the deployment, or ignore it.
"""

import json
import re
from collections.abc import Callable

Check = Callable[[str], bool]


def integer(low: int, high: int) -> Check:
    return lambda text: re.fullmatch(r"-?\d+", text) is not None and low <= int(text) <= high


def one_of(*values: str) -> Check:
    return lambda text: text in values


def matching(pattern: str) -> Check:
    return lambda text: re.fullmatch(pattern, text) is not None


def is_json(text: str) -> bool:
    return isinstance(json.loads(text), dict)


boolean = one_of("true", "false")
any_text = matching(r".+")
subnets = matching(r"subnet-[0-9a-f]+(,subnet-[0-9a-f]+)*")

OPTIONS: dict[str, dict[str, Check]] = {
    "aws:autoscaling:asg": {"MinSize": integer(1, 10000), "MaxSize": integer(1, 10000), "Cooldown": integer(0, 10000)},
    "aws:autoscaling:trigger": {
        "MeasureName": one_of("CPUUtilization", "NetworkIn", "NetworkOut", "RequestCount", "Latency"),
        "Statistic": one_of("Minimum", "Maximum", "Sum", "Average"),
        "Unit": one_of("Seconds", "Percent", "Bytes", "Bits", "Count", "None"),
        "Period": integer(1, 600),
        "EvaluationPeriods": integer(1, 600),
        "BreachDuration": integer(1, 600),
        "UpperThreshold": integer(0, 20_000_000),
        "LowerThreshold": integer(0, 20_000_000),
        "UpperBreachScaleIncrement": matching(r"-?\d+%?"),
        "LowerBreachScaleIncrement": matching(r"-?\d+%?"),
    },
    "aws:autoscaling:launchconfiguration": {
        "DisableIMDSv1": boolean,
        "IamInstanceProfile": any_text,
        "MonitoringInterval": one_of("1 minute", "5 minute"),
        "RootVolumeSize": integer(8, 16384),
        "RootVolumeType": one_of("standard", "io1", "io2", "gp2", "gp3"),
        "SecurityGroups": matching(r"sg-[0-9a-f]+(,sg-[0-9a-f]+)*"),
        "SSHSourceRestriction": matching(r"tcp, ?22, ?22, ?[\d./]+"),
    },
    "aws:autoscaling:updatepolicy:rollingupdate": {
        "MaxBatchSize": integer(1, 10000),
        "MinInstancesInService": integer(0, 9999),
        "RollingUpdateEnabled": boolean,
        "RollingUpdateType": one_of("Time", "Health", "Immutable"),
        "Timeout": matching(r"PT\d+[HMS]"),
    },
    "aws:ec2:instances": {
        "InstanceTypes": matching(r"[a-z0-9-]+\.[a-z0-9]+(, ?[a-z0-9-]+\.[a-z0-9]+)*"),
        "SupportedArchitectures": one_of("x86_64", "arm64"),
        "EnableSpot": boolean,
    },
    "aws:ec2:vpc": {
        "AssociatePublicIpAddress": boolean,
        "ELBSubnets": subnets,
        "Subnets": subnets,
        "VPCId": matching(r"vpc-[0-9a-f]+"),
    },
    "aws:elasticbeanstalk:application": {"Application Healthcheck URL": matching(r"(HTTPS?:\d+)?/\S*")},
    "aws:elasticbeanstalk:application:environment": {},  # names are our own; see the test of their size
    "aws:elasticbeanstalk:application:environmentsecrets": {},
    "aws:elasticbeanstalk:cloudwatch:logs": {
        "StreamLogs": boolean,
        "DeleteOnTerminate": boolean,
        "RetentionInDays": one_of("1", "3", "5", "7", "14", "30", "60", "90", "120", "150", "180", "365"),
    },
    "aws:elasticbeanstalk:command": {
        "DeploymentPolicy": matching("AllAtOnce|Rolling|RollingWithAdditionalBatch|Immutable|TrafficSplitting"),
        "BatchSizeType": one_of("Percentage", "Fixed"),
        "BatchSize": integer(1, 100),
        "Timeout": integer(1, 3600),
        "IgnoreHealthCheck": boolean,
    },
    "aws:elasticbeanstalk:container:python": {
        "WSGIPath": any_text,
        "NumProcesses": integer(1, 100),
        "NumThreads": integer(1, 1000),
    },
    "aws:elasticbeanstalk:environment": {
        "EnvironmentType": one_of("SingleInstance", "LoadBalanced"),
        "LoadBalancerType": one_of("classic", "application", "network"),
        "ServiceRole": any_text,
    },
    "aws:elasticbeanstalk:environment:process:default": {
        "DeregistrationDelay": integer(0, 3600),
        "HealthCheckInterval": integer(5, 300),
        "HealthCheckPath": matching(r"/\S*"),
        "HealthCheckTimeout": integer(1, 60),
        "HealthyThresholdCount": integer(2, 10),
        "UnhealthyThresholdCount": integer(2, 10),
        "MatcherHTTPCode": matching(r"\d{3}([,-]\d{3})*"),
        "Port": integer(1, 65535),
        "Protocol": one_of("HTTP", "HTTPS", "TCP", "TLS"),
    },
    "aws:elasticbeanstalk:healthreporting:system": {
        "ConfigDocument": is_json,
        "HealthCheckSuccessThreshold": one_of("Ok", "Warning", "Degraded", "Severe"),
        "SystemType": one_of("basic", "enhanced"),
    },
    "aws:elasticbeanstalk:managedactions": {
        "ManagedActionsEnabled": boolean,
        "PreferredStartTime": matching(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun):([01]\d|2[0-3]):[0-5]\d"),
    },
    "aws:elasticbeanstalk:managedactions:platformupdate": {
        "UpdateLevel": one_of("patch", "minor"),
        "InstanceRefreshEnabled": boolean,
    },
    "aws:elasticbeanstalk:sqsd": {
        "WorkerQueueURL": matching(r"https://\S+"),
        "HttpPath": matching(r"/\S*"),
        "MimeType": matching(r"[a-z]+/[a-z0-9.+-]+"),
        "HttpConnections": integer(1, 100),
        "ConnectTimeout": integer(1, 60),
        "InactivityTimeout": integer(1, 36000),
        "VisibilityTimeout": integer(0, 43200),
        "ErrorVisibilityTimeout": integer(0, 43200),
        "RetentionPeriod": integer(60, 1209600),
        "MaxRetries": integer(1, 100),
    },
    "aws:elbv2:listener:443": {
        "ListenerEnabled": boolean,
        "Protocol": one_of("HTTP", "HTTPS"),
        "SSLCertificateArns": matching(r"arn:aws[a-z-]*:acm:\S+"),
        "SSLPolicy": matching(r"ELBSecurityPolicy-[A-Za-z0-9-]+"),
    },
    "aws:elbv2:listener:default": {"ListenerEnabled": boolean},
    "aws:elbv2:loadbalancer": {"IdleTimeout": integer(1, 3600)},
}

# What `eb create` itself sends, with or without a saved configuration. Sent options beat .ebextensions.
OVERRIDDEN_BY_EB = {
    ("aws:autoscaling:launchconfiguration", "IamInstanceProfile"),
    ("aws:autoscaling:updatepolicy:rollingupdate", "RollingUpdateEnabled"),
    ("aws:autoscaling:updatepolicy:rollingupdate", "RollingUpdateType"),
    ("aws:elasticbeanstalk:command", "BatchSize"),
    ("aws:elasticbeanstalk:command", "BatchSizeType"),
    ("aws:elasticbeanstalk:environment", "LoadBalancerType"),
    ("aws:elasticbeanstalk:environment", "ServiceRole"),
    ("aws:elasticbeanstalk:healthreporting:system", "SystemType"),
    ("aws:elb:loadbalancer", "CrossZone"),
    ("aws:elb:policies", "ConnectionDrainingEnabled"),
}
