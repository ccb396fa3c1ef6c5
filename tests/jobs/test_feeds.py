"""RSS and Atom as rows; nothing that XML can be made to do."""

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_api.errors import InvalidInput
from model_api.jobs.feeds import plain_text, rows

RSS = """<?xml version="1.0"?>
<rss version="2.0" xmlns:content="http://purl.org/rss/1.0/modules/content/"><channel><title>News</title>
<item><title>First &amp; best</title><link>https://a.example/1</link><guid>1</guid>
<description>&lt;p&gt;The &lt;b&gt;cat&lt;/b&gt; sat.&lt;/p&gt;</description><pubDate>Mon, 30 Nov 2026</pubDate></item>
<item><title>Second</title><content:encoded><![CDATA[<p>Whole<br>text</p><script>x()</script>]]></content:encoded>
<description>short</description><link>https://a.example/2</link></item></channel></rss>"""
ATOM = """<feed xmlns="http://www.w3.org/2005/Atom"><title>News</title>
<entry><id>urn:1</id><title>First</title><link rel="self" href="https://a.example/self"/>
<link href="https://a.example/1"/><updated>2026-11-30T00:00:00Z</updated>
<content type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml">The <b>cat</b> sat.</div></content></entry>
<entry><id>urn:2</id><title>Second</title><summary>naïve café 東京</summary></entry></feed>"""


def read(text: str | bytes) -> list[dict[str, Any]]:
    return list(rows(io.BytesIO(text.encode() if isinstance(text, str) else text)))


def test_rss() -> None:
    first, second = read(RSS)
    assert first == {
        "id": "1",
        "title": "First & best",
        "text": "First & best\nThe cat sat.",
        "link": "https://a.example/1",
        "published": "Mon, 30 Nov 2026",
    }
    assert (second["id"], second["text"]) == ("https://a.example/2", "Second\nWhole text")


def test_atom() -> None:
    first, second = read(ATOM)
    assert (first["id"], first["link"]) == ("urn:1", "https://a.example/1")
    assert (first["text"], first["published"]) == ("First\nThe cat sat.", "2026-11-30T00:00:00Z")
    assert second["text"] == "Second\nnaïve café 東京"


def test_other_encodings_are_read_as_they_say() -> None:
    text = RSS.replace('<?xml version="1.0"?>', '<?xml version="1.0" encoding="ISO-8859-1"?>').replace("cat", "café")
    assert "café" in read(text.encode("latin-1"))[0]["text"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            '<!DOCTYPE rss [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><rss><item><id>&b;</id></item></rss>',
            "DOCTYPE",
        ),
        ('<!DOCTYPE rss SYSTEM "file:///etc/passwd"><rss/>', "DOCTYPE"),
        (
            '<!DOCTYPE r [<!ENTITY x SYSTEM "http://10.0.0.1/">]><rss><item><id>&x;</id></item></rss>',
            "DOCTYPE",
        ),
        ("<rss><item><title>&other;</title></item></rss>", "no XML"),
        ("<rss><item>", "no XML"),
        ("no XML", "no XML"),
        ("", "no XML"),
        ("<html><body/></html>", "neither RSS nor Atom"),
        ("<rss>" + "<a>" * 100 + "</a>" * 100 + "</rss>", "deeper than"),
        ("<rss>" + "<item/>" * 10_001 + "</rss>", "more than 10000 entries"),
        (f"<rss><item><title>{'x' * 1_000_001}</title></item></rss>", "longer than"),
    ],
    ids=lambda value: value[:30],
)
def test_what_is_no_feed_is_refused(text: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        read(text)


@given(st.binary(max_size=200) | st.text(st.sampled_from("<>/&;!-[]rsitem =\"'CDATA")).map(str.encode))
def test_whatever_comes_it_is_rows_or_a_refusal(content: bytes) -> None:
    try:
        found = read(b"<rss><item>" + content + b"</item></rss>")
    except InvalidInput:
        return
    assert all(isinstance(value, str) for row in found for value in row.values())


def test_markup_becomes_words() -> None:
    assert plain_text("a<br>b &amp; c  <style>x</style>d") == "a b & c d"
