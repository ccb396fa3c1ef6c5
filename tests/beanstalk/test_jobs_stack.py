"""scripts/beanstalk/jobs.yaml: the promises that a lint doesn't know."""

import inspect
from typing import Any

import pytest

from model_api.jobs.fleet import records
from scripts.beanstalk.stack import JOBS_TEMPLATE
from scripts.beanstalk.template import read_template, table_of


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    return dict(read_template(JOBS_TEMPLATE)["Resources"])


def test_the_table_has_an_index_for_each_question_and_no_other(resources: dict[str, Any]) -> None:
    table = table_of({"Resources": resources}, "jobs")
    asked = {getattr(records, name) for name in ("BY_STATUS", "BY_OWNER", "BY_EXPIRY", "BY_NOTICE")}
    assert {index["IndexName"] for index in table["GlobalSecondaryIndexes"]} == asked
    keys = {key["AttributeName"] for index in table["GlobalSecondaryIndexes"] for key in index["KeySchema"]}
    assert {one["AttributeName"] for one in table["AttributeDefinitions"]} == keys | {"id"}
    for index in table["GlobalSecondaryIndexes"]:
        held = {key["AttributeName"] for key in index["KeySchema"]} | set(index["Projection"]["NonKeyAttributes"])
        assert {"status", "kind", "expires", "ready_at"} <= held


def test_records_and_objects_outlive_the_stack(resources: dict[str, Any]) -> None:
    for name in ("Table", "Bucket"):
        kept = (resources[name]["DeletionPolicy"], resources[name]["UpdateReplacePolicy"])
        assert kept == ("RetainExceptOnCreate", "Retain")


def test_instances_may_what_the_application_does_and_no_more(resources: dict[str, Any]) -> None:
    statements = resources["JobsPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    actions = {
        action
        for one in statements
        for action in ([one["Action"]] if isinstance(one["Action"], str) else one["Action"])
    }
    source = inspect.getsource(records)
    asked = {
        name
        for name in ("get_item", "put_item", "delete_item", "query", "scan", "update_item")
        if f".{name}(" in source
    }
    assert {f"dynamodb:{name.title().replace('_', '')}" for name in asked} == {
        a for a in actions if a[:8] == "dynamodb"
    }
    assert not [action for action in actions if "*" in action]
    assert not [one for one in statements if one["Resource"] == "*"]


def test_the_bucket_is_nobody_else_s(resources: dict[str, Any]) -> None:
    assert set(resources["Bucket"]["Properties"]["PublicAccessBlockConfiguration"].values()) == {True}
    (denied,) = resources["BucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert denied["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_uploads_alone_are_told_of(resources: dict[str, Any]) -> None:
    (told,) = resources["Bucket"]["Properties"]["NotificationConfiguration"]["QueueConfigurations"]
    assert told["Filter"]["S3Key"]["Rules"] == [{"Name": "prefix", "Value": "uploads/"}]
    (allowed,) = resources["QueuePolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert allowed["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


def test_a_message_that_nobody_can_take_is_kept_and_told_of(resources: dict[str, Any]) -> None:
    redrive = resources["Queue"]["Properties"]["RedrivePolicy"]
    assert redrive["deadLetterTargetArn"] == {"GetAtt": "DeadLetters.Arn"}
    kept_s = resources["DeadLetters"]["Properties"]["MessageRetentionPeriod"]
    assert kept_s > resources["Queue"]["Properties"]["MessageRetentionPeriod"]
    watched = {
        (alarm["Properties"]["MetricName"], alarm["Properties"]["Dimensions"][0]["Value"]["GetAtt"])
        for alarm in resources.values()
        if alarm["Type"] == "AWS::CloudWatch::Alarm" and "MetricName" in alarm["Properties"]
    }
    assert ("ApproximateAgeOfOldestMessage", "Queue.QueueName") in watched
    assert ("ApproximateNumberOfMessagesVisible", "Queue.QueueName") in watched
    assert ("ApproximateNumberOfMessagesVisible", "DeadLetters.QueueName") in watched


def test_what_runs_keeps_its_worker(resources: dict[str, Any]) -> None:
    """A message is in flight until its job is over, so the alarm that stops workers counts those too."""
    idleness = resources["IdlenessScales"]["Properties"]
    metrics = {one["MetricStat"]["Metric"]["MetricName"] for one in idleness["Metrics"] if "MetricStat" in one}
    assert metrics == {"ApproximateNumberOfMessagesVisible", "ApproximateNumberOfMessagesNotVisible"}
    assert (idleness["Threshold"], idleness["ComparisonOperator"]) == (0, "LessThanOrEqualToThreshold")
    assert resources["FewerWorkers"]["Condition"] == resources["IdlenessScales"]["Condition"] == "HasWorkerGroup"
