"""The alarms of .ebextensions: a valid template, metrics that somebody sends, and a row that says what to do."""

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.rehearsal.ebextensions import extensions_of
from scripts.rehearsal.upload import DEPLOY_BIN
from tests.needs import missing, needs
from tests.rigs.get_config import write_get_config
from tests.rigs.project import ROOT

EXTENSIONS = extensions_of(ROOT / ".ebextensions")
ALARMS = {
    name: resource["Properties"]
    for name, resource in EXTENSIONS.section("Resources").items()
    if resource["Type"] == "AWS::CloudWatch::Alarm"
}
# What every environment sends unasked.
ALWAYS = {("AWS/ElasticBeanstalk", "EnvironmentHealth"), ("AWS/EC2", "CPUUtilization")}
ANSWERS = {
    "/models": {
        "models": [{"state": state} for state in ("serving", "refused", "degraded", "loading")],
        "mount": {"mounted": False},
    }
}
METRICS = "# HELP model_api_log_lines_lost Of the log.\nmodel_api_log_lines_lost 3.0\nmodel_api_ready 1.0\n"
PROPERTIES = {"ENVIRONMENT_NAME": "production", "CLOUDWATCH_REGION": "eu-central-1"}


@contextmanager
def application(answers: dict[str, Any]) -> Iterator[int]:
    """Stands in for the application: its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = METRICS.encode() if self.path == "/metrics" else json.dumps(answers.get(self.path)).encode()
            self.send_response(200 if answers else 503)
            self.end_headers()
            self.wfile.write(found)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def put_metrics(folder: Path, answers: dict[str, Any], properties: dict[str, str]) -> tuple[int, list[str], str]:
    """The script's status, the arguments with which it called `aws` (a stand-in), and what it said."""
    write_get_config(folder / "get-config", properties)
    (folder / "aws").write_text(f'#!/bin/sh\nprintf "%s\\0" "$@" >{folder}/called\n')
    (folder / "aws").chmod(0o755)
    with application(answers) as port:
        for name in ("properties.sh", "put_metrics"):
            text = (ROOT / ".platform/bin" / name).read_text()
            text = text.replace("/opt/elasticbeanstalk/bin/get-config", str(folder / "get-config"))
            (folder / name).write_text(text.replace("127.0.0.1:8000", f"127.0.0.1:{port}"))
        done = subprocess.run(
            ["bash", folder / "put_metrics"],
            env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=60,
        )
    called = folder / "called"
    arguments = called.read_text().split("\0")[:-1] if called.exists() else []
    return done.returncode, arguments, done.stdout + done.stderr


def sent(folder: Path) -> list[dict[str, Any]]:
    status, arguments, told = put_metrics(folder, ANSWERS, PROPERTIES)
    assert (status, told) == (0, "")
    assert arguments[:6] == ["cloudwatch", "put-metric-data", "--region", "eu-central-1", "--namespace", "ModelApi"]
    data: list[dict[str, Any]] = json.loads(arguments[7])
    return data


def test_what_the_application_knows_is_told(tmp_path: Path) -> None:
    assert {one["MetricName"]: one["Value"] for one in sent(tmp_path)} == {
        "RefusedModels": 2,
        "StoreAway": 1,
        "LostLogLines": 3,
    }


def test_an_application_that_does_not_answer_is_told_by_nobody(tmp_path: Path) -> None:
    assert put_metrics(tmp_path, {}, PROPERTIES) == (0, [], "")


def test_an_environment_without_its_name_is_a_fault(tmp_path: Path) -> None:
    status, arguments, told = put_metrics(tmp_path, ANSWERS, {})
    assert (status, arguments) == (1, [])
    assert "ENVIRONMENT_NAME" in told


def test_every_alarm_looks_at_a_metric_that_is_sent(tmp_path: Path) -> None:
    health = EXTENSIONS.option_settings["aws:elasticbeanstalk:healthreporting:system"]
    asked = json.loads(health["ConfigDocument"])["CloudWatchMetrics"]["Environment"]
    metrics = ALWAYS | {("AWS/ElasticBeanstalk", name) for name in asked}
    own = sent(tmp_path)
    metrics |= {("ModelApi", one["MetricName"]) for one in own}
    assert {(alarm["Namespace"], alarm["MetricName"]) for alarm in ALARMS.values()} <= metrics
    for alarm in ALARMS.values():
        (dimension,) = alarm["Dimensions"]
        if alarm["Namespace"] == "ModelApi":
            assert own[0]["Dimensions"] == [{"Name": dimension["Name"], "Value": "production"}]
        assert dimension["Value"]["Ref"] in ("AWSEBEnvironmentName", "AWSEBAutoScalingGroup")


def test_every_alarm_tells_somebody_and_has_its_row() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    for name, alarm in ALARMS.items():
        assert f"| {name} |" in page
        assert alarm["AlarmActions"] == alarm["OKActions"] == [{"Ref": "ModelApiAlarmTopic"}]
        assert "docs/operations.md" in alarm["AlarmDescription"]


@pytest.mark.integration
def test_the_resources_are_a_valid_template(tmp_path: Path) -> None:
    """Within the template that Beanstalk puts them into, of which two names are used."""
    if not (DEPLOY_BIN / "cfn-lint").exists():
        missing("scripts/setup-deploy --dev has not been run")
    group = {
        "Type": "AWS::AutoScaling::AutoScalingGroup",
        "Properties": {"MinSize": "1", "MaxSize": "1", "LaunchConfigurationName": "x"},
    }
    document = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Parameters": {"AWSEBEnvironmentName": {"Type": "String"}},
        "Resources": {"AWSEBAutoScalingGroup": group, **EXTENSIONS.section("Resources")},
    }
    (tmp_path / "template.yaml").write_text(yaml.safe_dump(document))
    done = subprocess.run([DEPLOY_BIN / "cfn-lint", tmp_path / "template.yaml"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.integration
def test_aws_takes_what_is_sent(tmp_path: Path) -> None:
    """By botocore's own description of the call, and moto."""
    if not (DEPLOY_BIN / "cfn-lint").exists():
        missing("scripts/setup-deploy --dev has not been run")
    put = """
import json, sys, boto3
from moto import mock_aws
with mock_aws():
    cloudwatch = boto3.client("cloudwatch", "eu-central-1")
    cloudwatch.put_metric_data(Namespace="ModelApi", MetricData=json.load(sys.stdin))
    print(sorted(metric["MetricName"] for metric in cloudwatch.list_metrics(Namespace="ModelApi")["Metrics"]))
"""
    done = subprocess.run(
        [DEPLOY_BIN / "python", "-c", put],
        input=json.dumps(sent(tmp_path)),
        env={**os.environ, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['LostLogLines', 'RefusedModels', 'StoreAway']"


@pytest.mark.integration
def test_systemd_knows_every_line_of_the_units(tmp_path: Path) -> None:
    """Those of .ebextensions, with web.service as the platform writes it."""
    needs("systemd-analyze")
    units = {name: entry["content"] for name, entry in EXTENSIONS.section("files").items() if "/systemd/" in name}
    assert len(units) >= 4
    for name, content in units.items():
        path = tmp_path / name.removeprefix("/etc/systemd/system/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (tmp_path / "web.service").write_text("[Service]\nType=simple\nExecStart=/bin/true\nRestart=always\n")
    for unit in sorted(path for path in tmp_path.glob("*.*") if path.is_file()):
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), unit.name
