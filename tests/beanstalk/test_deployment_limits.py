"""The time-outs and size limits of application, gunicorn, nginx and ALB, each set in its own place, fit each other."""

import math
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from model_api.errors import SettingsError
from model_api.settings import Settings
from model_api.web.server.front import IDLE_S
from scripts.beanstalk.saved_configuration import ENVIRONMENT, SQSD, WEB, WORKER
from scripts.rehearsal.ebextensions import extensions_of
from tests.rigs.get_config import write_get_config
from tests.rigs.nginx import render_limits
from tests.rigs.project import ROOT
from tests.rigs.stand_in_service import stand_in_app

OPTIONS = extensions_of(ROOT / ".ebextensions").option_settings
SETTINGS = Settings.from_env(OPTIONS[ENVIRONMENT])
ALB_IDLE_S = int(WEB["aws:elbv2:loadbalancer"]["IdleTimeout"])
PROCESS = WEB["aws:elasticbeanstalk:environment:process:default"]
# Beanstalk's own nginx configuration; keepalive_timeout stands in its server block and can't be changed from outside.
NGINX_KEEPALIVE_S = 60
SYSTEMD_STOP_S = 90


@pytest.fixture
def nginx_limits(tmp_path: Path) -> dict[str, str]:
    """What render_nginx_limits writes for the properties of .ebextensions."""
    return rendered(tmp_path, OPTIONS[ENVIRONMENT])


def rendered(folder: Path, properties: dict[str, str] | None) -> dict[str, str]:
    """The figures of what is written."""
    render_limits(folder, properties)
    written = (folder / "nginx/conf.d/elasticbeanstalk/limits.conf").read_text()
    limits = dict(re.findall(r"^(\w+) (\S+);$", written, re.MULTILINE))
    for place, figure, name in (
        ("worker/", "proxy_read_timeout", "worker"),
        (r"(uploads/|v1/files$)", "client_max_body_size", "uploads"),
    ):
        found = re.findall(rf"^location ~ \^/{re.escape(place)} {{\n    {figure} (\S+);$", written, re.MULTILINE)
        limits[name] = "".join(found)
    return limits


def seconds(text: str) -> int:
    assert text.endswith("s")
    return int(text[:-1])


def test_every_outer_wait_is_longer(nginx_limits: dict[str, str]) -> None:
    waits = [SETTINGS.request_timeout_s, seconds(nginx_limits["proxy_read_timeout"]), ALB_IDLE_S, NGINX_KEEPALIVE_S]
    assert waits == sorted(set(waits))


def test_the_server_keeps_connections_longer_than_nginx() -> None:
    assert IDLE_S > NGINX_KEEPALIVE_S


def test_a_stopping_instance_finishes_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deregistered: the slowest request ends in time. Stopped: noticed, drained, and gone before systemd kills it."""
    assert int(PROCESS["DeregistrationDelay"]) > SETTINGS.request_timeout_s
    noticed_s = int(PROCESS["HealthCheckInterval"]) * int(PROCESS["UnhealthyThresholdCount"])
    assert SETTINGS.drain_delay_s >= noticed_s
    graceful_s = gunicorn_settings(monkeypatch)["graceful_timeout"]
    assert SETTINGS.drain_delay_s + SETTINGS.request_timeout_s <= graceful_s < SYSTEMD_STOP_S


def test_health_checks_end_before_the_next(nginx_limits: dict[str, str]) -> None:
    assert int(PROCESS["HealthCheckTimeout"]) < int(PROCESS["HealthCheckInterval"])


def test_nginx_takes_the_bodies_that_the_application_takes(nginx_limits: dict[str, str]) -> None:
    assert int(nginx_limits["client_max_body_size"]) == SETTINGS.max_body_bytes
    assert int(nginx_limits["uploads"]) == SETTINGS.max_upload_bytes


def test_a_changed_deadline_reaches_nginx(tmp_path: Path) -> None:
    properties = {
        "MODEL_API_REQUEST_TIMEOUT_S": "12.5",
        "MODEL_API_MAX_BODY_BYTES": "2048",
        "MODEL_API_MAX_UPLOAD_BYTES": "4096",
    }
    limits = rendered(tmp_path, properties)
    assert seconds(limits["proxy_read_timeout"]) > 12.5
    assert limits["client_max_body_size"] == "2048"
    assert limits["uploads"] == "4096"
    assert not limits["worker"]


def test_a_worker_waits_longer_than_the_daemon_can(tmp_path: Path) -> None:
    daemon_at_most_s = int(WORKER[SQSD]["InactivityTimeout"])
    limits = rendered(tmp_path, {"MODEL_API_ROLE": "worker"})
    assert seconds(limits["worker"]) > daemon_at_most_s


def test_the_clock_of_a_worker_asks_for_what_there_is() -> None:
    tasks = yaml.safe_load((ROOT / "cron.yaml").read_text())["cron"]
    rules = [
        rule.rule.replace("<name>", task["name"]) for task in tasks for rule in stand_in_app()[0].url_map.iter_rules()
    ]
    assert {task["url"] for task in tasks} <= set(rules)


def gunicorn_settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """gunicorn.conf.py evaluated with the properties of .ebextensions."""
    for name, value in OPTIONS[ENVIRONMENT].items():
        monkeypatch.setenv(name, value)
    namespace: dict[str, int] = {}
    exec(compile((ROOT / "gunicorn.conf.py").read_text(), "gunicorn.conf.py", "exec"), namespace)
    return namespace


@pytest.mark.parametrize(
    ("value", "read_s"), [("1e2", 110), ("030", 40), ("29.5", 40), ("1_0", 20)], ids=["1e2", "030", "29.5", "1_0"]
)
def test_a_number_is_read_as_the_application_reads_it(tmp_path: Path, value: str, read_s: int) -> None:
    limits = rendered(tmp_path, {"MODEL_API_REQUEST_TIMEOUT_S": value})
    assert seconds(limits["proxy_read_timeout"]) == read_s


@pytest.mark.parametrize("properties", [None, {"MODEL_API_REQUEST_TIMEOUT_S": "soon"}], ids=["broken", "no number"])
def test_a_deployment_stops_rather_than_guess(tmp_path: Path, properties: dict[str, str] | None) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        rendered(tmp_path, properties)
    told = failed.value.stderr.decode()
    assert ("get-config failed" if properties is None else "=soon is not a number") in told


@pytest.mark.parametrize("value", ["it's", 'a "b"', "100% $HOME `date`", "two\nlines", " spaces "])
def test_any_value_of_a_property_comes_through(tmp_path: Path, value: str) -> None:
    get_config = tmp_path / "get-config"
    write_get_config(get_config, {"NAME": value})
    text = (ROOT / ".platform/bin/properties.sh").read_text()
    (tmp_path / "properties.sh").write_text(text.replace("/opt/elasticbeanstalk/bin/get-config", str(get_config)))
    script = f'. {tmp_path}/properties.sh; x=$(property NAME; printf .); printf %s "${{x%.}}"'
    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, check=True)
    assert done.stdout == value.strip()


def test_blanks_and_the_case_of_names_and_words_are_read_as_the_application_reads_them(tmp_path: Path) -> None:
    limits = rendered(
        tmp_path,
        {"MODEL_API_REQUEST_TIMEOUT_S": "  ", "model_api_max_body_bytes": " 4096 ", "MODEL_API_ROLE": "Worker "},
    )
    assert seconds(limits["proxy_read_timeout"]) == 40
    assert limits["client_max_body_size"] == "4096"
    assert limits["worker"]


NUMBERS = (
    *("30", " 30 ", "030", "1e2", "1E+2", "2.5", ".5", "5.", "1_0", "10_485_760", "1__0", "_1", "1_", "0x1f", "0o17"),
    *(
        "-1",
        "+30",
        "30s",
        "1,5",
        "1 000",
        "",
        " ",
        "nan",
        "inf",
        "1e400",
        "\u0663\u0660",
        "1e-1",
        "true",
        "None",
        "3e1_0",
    ),
)


@pytest.mark.parametrize("text", NUMBERS)
def test_hooks_and_application_agree_on_every_number(tmp_path: Path, text: str) -> None:
    """Where the application takes it, the hook has the same figure; a hook that takes more starts nothing."""
    name = "MODEL_API_REQUEST_TIMEOUT_S"
    try:
        settings = Settings.from_env({name: text})
    except SettingsError:
        return
    limits = rendered(tmp_path, {name: text})
    assert seconds(limits["proxy_read_timeout"]) == math.ceil(settings.request_timeout_s) + 10
