"""Telling a topic of SNS."""

from model_api.jobs.fleet.clients import client, told_as_down

MAX_SUBJECT_CHARS = 100


def publish(arn: str, subject: str, body: bytes) -> None:
    """Raises JobsDown. The region is the topic's own."""
    sns = client("sns", region_name=arn.split(":")[3])
    with told_as_down("the topic of the notices"):
        sns.publish(TopicArn=arn, Subject=subject[:MAX_SUBJECT_CHARS], Message=body.decode())
