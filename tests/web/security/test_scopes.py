"""Every route has its decision, here and in the documentation."""

import re

from model_api.repository.keys import SCOPES
from model_api.web.security import scopes
from model_api.web.security.scopes import DECISIONS, GROUPS, OPEN, OPERATE, STATUS, WITHOUT_KEY, need_of
from tests.rigs.project import ROOT
from tests.rigs.stand_in_service import stand_in_app


def routes() -> set[str]:
    rules = stand_in_app()[0].url_map.iter_rules()
    return {f"{method} {rule.rule}" for rule in rules for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}}


def test_each_route_is_decided_and_nothing_else_is() -> None:
    undecided = sorted(routes() - set(DECISIONS))
    assert not undecided, "decide who may call it, in web/security/scopes.py and docs/security.md"
    assert not sorted(set(DECISIONS) - routes()), "these routes are gone: take them out of web/security/scopes.py"


def test_decisions_are_made_of_scopes_that_keys_can_have() -> None:
    known = {frozenset({scope}) for scope in SCOPES}
    for route, need in DECISIONS.items():
        assert need in WITHOUT_KEY or all(frozenset({scope}) in known for scope in need), route
        assert need, route


def test_the_documentation_has_the_same_table() -> None:
    section = (
        (ROOT / "docs" / "security.md").read_text().partition("### Which route needs what")[2].partition("\n##")[0]
    )
    written = {}
    for row in re.findall(r"^\| (.+?) \| (.+) \|$", section, re.MULTILINE):
        for route in re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) [^`]+)`", row[1]):
            written[route] = frozenset(re.findall(r"`([a-z]+)`", row[0]))
    words = {OPEN: "open", scopes.BY_ADDRESS: "address", scopes.BY_DAEMON: "daemon"}
    decided = {route: frozenset({words[need]}) if need in words else need for route, need in DECISIONS.items()}
    assert written == decided, "docs/security.md and web/security/scopes.py differ"


def test_a_route_without_a_decision_is_for_nobody() -> None:
    assert need_of("GET", "/brand/new") == frozenset()
    assert not need_of("GET", "/brand/new") & set(SCOPES)


def test_head_is_get_and_groups_open_what_they_say() -> None:
    assert need_of("HEAD", "/metrics") == STATUS
    assert need_of("GET", "/metrics", frozenset({"metrics"})) == OPEN
    assert need_of("GET", "/models", frozenset({"metrics"})) != OPEN
    assert need_of("DELETE", "/cache", frozenset(GROUPS)) == OPERATE
    assert all(routes <= set(DECISIONS) for routes in GROUPS.values())
