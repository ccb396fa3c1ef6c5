"""docs/adr: numbered from 1 without a hole, and all in the index, by their titles."""

import re

from tests.rigs.project import ROOT

DECISIONS = sorted(path for path in (ROOT / "docs" / "adr").iterdir() if path.name != "README.md")


def test_the_numbers_have_no_hole() -> None:
    assert [path.name[:5] for path in DECISIONS] == [f"{number:04}-" for number in range(1, len(DECISIONS) + 1)]


def test_each_title_has_its_number_and_the_index_has_it() -> None:
    titles = [path.read_text().splitlines()[0] for path in DECISIONS]
    numbered = [re.fullmatch(r"# (\d+)\. (.+)", title) for title in titles]
    assert [match and int(match[1]) for match in numbered] == list(range(1, len(DECISIONS) + 1)), titles
    expected = [f"{m[1]}. [{m[2]}]({p.name})" for m, p in zip(numbered, DECISIONS, strict=True) if m]
    index = (ROOT / "docs" / "adr" / "README.md").read_text()
    assert re.findall(r"^\d+\. .*$", index, re.MULTILINE) == expected
