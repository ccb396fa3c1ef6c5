"""Reading CloudFormation templates: for the tests, and for what is made of a template without CloudFormation."""

from pathlib import Path
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """Reads the short forms (!Ref X, !GetAtt X.Y) as {"Ref": "X"}, {"GetAtt": "X.Y"}."""


def _short_form(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        return {suffix: loader.construct_scalar(node)}
    assert isinstance(node, yaml.SequenceNode)
    return {suffix: loader.construct_sequence(node, deep=True)}


_Loader.add_multi_constructor("!", _short_form)


def read_template(file: Path) -> dict[str, Any]:
    return dict(yaml.load(file.read_text(), _Loader))  # noqa: S506 - a SafeLoader


def table_of(template: dict[str, Any], name: str) -> dict[str, Any]:
    """What DynamoDB's CreateTable takes for the template's table; the rest of it is AWS's own side."""
    properties = template["Resources"]["Table"]["Properties"]
    asked = ("BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")
    return {"TableName": name, **{key: properties[key] for key in asked}}
