"""Beanstalk's daemon (scripts/rehearsal/sqsd.py) between a queue and a server of the tests, which may change."""

from collections.abc import Callable, Mapping

from scripts.rehearsal.sqsd import Config, Sqsd
from tests.rigs.fleet import Cloud


def sqs_daemon(
    aws: Cloud,
    queue_url: str,
    base_url: Callable[[], str],
    connections: int = 2,
    error_s: int = 2,
    tasks: Mapping[str, str] | None = None,
) -> Sqsd:
    """Its times are short: what isn't answered 200 comes again soon."""
    config = Config(
        queue_url=queue_url,
        http_connections=connections,
        inactivity_timeout_s=60,
        visibility_timeout_s=62,
        error_visibility_timeout_s=error_s,
        tasks=tasks or {},
        tasks_every_s=0.5,
    )
    return Sqsd(config, lambda: aws.client("sqs"), base_url)
