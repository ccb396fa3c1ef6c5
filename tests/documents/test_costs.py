"""The worked example of docs/deploy.md: amounts times prices are what it says, and so is their sum."""

import re

from tests.rigs.project import ROOT


def test_the_products_and_the_sum_are_right() -> None:
    section = (ROOT / "docs/deploy.md").read_text().split("### A worked example")[1].split("\n## ")[0]
    rows = re.findall(r"^\| .+ \| (\d+)(?: \w+)? \| ([\d.]+) \| ([\d.]+) \|$", section, re.MULTILINE)
    assert len(rows) >= 12
    for amount, price, product in rows:
        assert abs(int(amount) * float(price) - float(product)) <= 0.0051, (amount, price, product)
    (total,) = re.findall(r"\*\*([\d.]+)\*\*", section)
    assert round(sum(float(product) for *_, product in rows), 2) == float(total)
