"""Who the caller is."""

import pytest

from model_api.web.callers import caller_of, client_address


@pytest.mark.parametrize(
    ("forwarded", "hops", "expected"),
    [
        (None, 0, "10.0.0.9"),
        ("1.1.1.1", 0, "10.0.0.9"),
        (None, 1, "10.0.0.9"),
        ("1.1.1.1", 1, "1.1.1.1"),
        ("6.6.6.6, 1.1.1.1", 1, "1.1.1.1"),
        ("6.6.6.6, 1.1.1.1, 10.0.0.2", 2, "1.1.1.1"),
        ("1.1.1.1", 2, "10.0.0.9"),
        ("1.1.1.1:4711", 1, "1.1.1.1"),
        ("2001:DB8::1", 1, "2001:db8::1"),
        ("[2001:db8::1]:443", 1, "2001:db8::1"),
        ("<script>", 1, "10.0.0.9"),
        (",", 1, "10.0.0.9"),
        ("1.1.1.1,", 1, "10.0.0.9"),
    ],
)
def test_the_caller_can_not_invent_its_address(forwarded: str | None, hops: int, expected: str) -> None:
    assert client_address("10.0.0.9", forwarded or "", hops) == expected


def test_a_network_that_one_customer_has_is_one_caller() -> None:
    assert caller_of("2001:db8:1:2::1") == caller_of("2001:db8:1:2:ffff::9") != caller_of("2001:db8:1:3::1")
    assert caller_of("::ffff:10.1.2.3") == caller_of("10.1.2.3") == "10.1.2.3"
    assert caller_of("unknown") == "unknown"
