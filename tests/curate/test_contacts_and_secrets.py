"""The compiled matcher against regular expressions, kind by kind, and what lies over what."""

import collections
import ipaddress
import math
import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mixwright.curate import content_kernels as kernels
from mixwright.curate.content_kernels import EMAIL, IP, NAMES, PHONE, SECRET, URL, find_spans
from mixwright.curate.signals.contacts_and_secrets import ContactsAndSecrets
from mixwright.curate.texts import Texts
from mixwright.testing import check_signal

ALL = URL | EMAIL | PHONE | IP | SECRET
IN_URL = r"[A-Za-z0-9\-._~:/?#@!$&()*+,;=%]"
OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
PATTERNS = {
    URL: rf"[A-Za-z]{{2,}}://(?=[A-Za-z0-9/]){IN_URL}+|(?<![A-Za-z0-9_])www\.(?=[A-Za-z0-9]){IN_URL}+",
    EMAIL: r"(?<![A-Za-z0-9._%+\-])[A-Za-z0-9._%+\-]{1,64}@"
    r"[A-Za-z0-9]+(?:-+[A-Za-z0-9]+)*(?:\.[A-Za-z0-9]+(?:-+[A-Za-z0-9]+)*)+",
    PHONE: r"(?<![A-Za-z0-9_+])\+[1-9](?:[ .\-()]{0,2}[0-9]){7,14}(?![0-9])"
    r"|(?<![A-Za-z0-9_.\-+])(?:1[ .\-])?\(?[2-9][0-9]{2}(?:\)[ ]?|[ .\-])[2-9][0-9]{2}[ .\-][0-9]{4}(?![A-Za-z0-9_]|[.\-][0-9])",
    IP: rf"(?<![A-Za-z0-9_.])(?:{OCTET}\.){{3}}{OCTET}(?![A-Za-z0-9_]|\.[0-9])",
}


def trimmed(url: str) -> str:
    """Without what closes the sentence, or a bracket opened before it."""
    while url:
        if (url.endswith(")") and url.count(")") > url.count("(")) or url[-1] in ".,;:!?*~":
            url = url[:-1]
        else:
            break
    return url


def accepted(found: str, kind: int) -> str:
    """The part of what a pattern found that counts; none: empty."""
    if kind == URL:
        found = trimmed(found)
        scheme = re.match("[A-Za-z]+://|www", found)
        return found if scheme and re.search(r"[A-Za-z0-9/]", found[scheme.end() :]) else ""
    if kind == EMAIL:
        found = found.lstrip("._%+-")
        local, _, domain = found.partition("@")
        fine = local and not local.endswith(".") and re.fullmatch("[A-Za-z]{2,}", domain.rpartition(".")[2])
        return found if fine else ""
    return found


def plain(text: str, kind: int) -> list[str]:
    """Where a match ends a new text begins, as far as what stands before the next is concerned."""
    found, at = [], 0
    while match := re.compile(PATTERNS[kind]).search(text, at):
        one = accepted(match[0], kind)
        at = match.end()
        if one:
            found.append(one)
            text, at = text[match.start() + match[0].index(one) + len(one) :], 0
    return found


def compiled(text: str, kinds: int) -> list[str]:
    texts = Texts([text])
    return [
        texts.data[start:stop].tobytes().decode()
        for _, _, start, stop in find_spans(texts.data, texts.offsets, kinds).T
    ]


PARTS = st.sampled_from(
    ["http", "https", "git", "x", "://", "www.", "a.org", "a-b.co.uk", "/p?q=1", "(", ")", ".", ",", " ", "\n", "é", "日",
     "bob", "bob.x", "_", "-", "+", "%", "@", "ex.com", "1", "555", "323", "4567", "415-555-2671", "+49", "30", "901820",
     "(415) 555-2671",
     "10.0.0.1", "255", "256", "01", "10", "0"]
)  # fmt: skip
TEXT = st.lists(PARTS, max_size=14).map("".join)


@settings(max_examples=600, deadline=None)
@given(TEXT, st.sampled_from([URL, EMAIL, PHONE, IP]))
@example("x" * 63 + "@a.org", EMAIL)
@example("see (http://a.org/x_(y)). Then", URL)
@example("y" * 47 + "www.a.org", URL)
@example("1-415-555-2671", PHONE)
@example("(415) 555-2671(415) 555-2671", PHONE)
def test_as_regular_expressions(text: str, kind: int) -> None:
    assert compiled(text, kind) == plain(text, kind)


@pytest.mark.parametrize("pad", range(0, 130, 7))
def test_wherever_they_stand(pad: int) -> None:
    """Blocks of 64 bytes begin every 48."""
    for text in (
        "https://a.org/b",
        "www.a.org",
        "bob@a.org",
        "10.0.0.1",
        "+49 30 901820",
        "(415) 555-2671",
        "ghp_" + "a1B2" * 9,
    ):
        assert compiled("." * pad + " " + text + " " + "." * pad, ALL) == [text]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("10.0.0.1, 255.255.255.255.", ["10.0.0.1", "255.255.255.255"]),
        ("256.1.1.1 1.2.3 1.2.3.4.5 01.2.3.4 v1.2.3.4 1.2.3.4x 1.2.3.4567", []),
        ("是10.1.2.3的", ["10.1.2.3"]),
        ("2001:db8::ff00:42:8329 and fe80::1ff: yes", ["2001:db8::ff00:42:8329", "fe80::1ff"]),
        ("1:2:3:4:5:6:7:8", ["1:2:3:4:5:6:7:8"]),
        ("12:30:45 a::b std::dead x[::2] aa:bb:cc:dd:ee:ff 1:2:3:4:5:6:7:8:9 12345::678 fe80:::1ff", []),
    ],
)
def test_ip_addresses(text: str, found: list[str]) -> None:
    assert compiled(text, IP) == found


@settings(max_examples=200, deadline=None)
@given(st.ip_addresses(v=6), st.booleans())
def test_any_ipv6_address(address: ipaddress.IPv6Address, exploded: bool) -> None:
    written = address.exploded if exploded else address.compressed
    groups = written.split(":")
    full = len(groups) == 8 and "" not in groups
    telling = any(len(group) >= 3 and re.search("[0-9]", group) for group in groups)
    assert compiled(f"at {written}, port", IP) == ([written] if full or telling else [])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(["::", ":", "1", "ab", "12f", "fe80", "00000", "g", " "]), max_size=20).map("".join))
def test_what_is_found_is_an_address(text: str) -> None:
    for found in compiled(text, IP):
        ipaddress.ip_address(found)


def quoted(value: str) -> bool:
    counts = collections.Counter(value).values()
    entropy = -sum(n / len(value) * math.log2(n / len(value)) for n in counts)
    return entropy >= kernels.ENTROPY and bool(re.search("[0-9]", value)) and bool(re.search("[A-Za-z]", value))


KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nAbc\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("AKIAIOSFODNN7EXAMPLE", ["AKIAIOSFODNN7EXAMPLE"]),
        ("AKIAIOSFODNN7EXAMPLEX AKIAIOSFODNN7EXAMPL xAKIAIOSFODNN7EXAMPLE AKIAiosfodnn7example", []),
        (f"key=ghp_{'a1B2' * 9};", ["ghp_" + "a1B2" * 9]),
        ("ghp_" + "a1B2" * 8, []),
        ("xoxb-123456789012-abcdefABCDEF", ["xoxb-123456789012-abcdefABCDEF"]),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSM_eKK-F2Q", []),
        (
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx.SflKxwRJSM_eKK-F2Q",
            ["eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx.SflKxwRJSM_eKK-F2Q"],
        ),
        (f"a\n{KEY}\nb", [KEY]),
        ("-----BEGIN PUBLIC KEY-----\nMII\n-----END PUBLIC KEY-----", []),
        ("-----BEGIN PRIVATE KEY-----", ["-----BEGIN PRIVATE KEY-----"]),
        ("API_KEY = 'aB3dE5gH7jK9mN1pQ'", ["aB3dE5gH7jK9mN1pQ"]),
        ('"client_secret": "aB3dE5gH7jK9mN1pQ"', ["aB3dE5gH7jK9mN1pQ"]),
        ("API_KEY = 'aaaaaaaaaaaaaaaaa1'", []),
        ("name = 'aB3dE5gH7jK9mN1pQ'", []),
        ("auth of name = 'aB3dE5gH7jK9mN1pQ'", []),
        ("config['token'] = 'aB3dE5gH7jK9mN1pQ'", ["aB3dE5gH7jK9mN1pQ"]),
        ("secret\nname = 'aB3dE5gH7jK9mN1pQ'", []),
        ("a-quite-long-hyphenated-name-of_a_variable_0123456789", []),
    ],
)
def test_secrets(text: str, found: list[str]) -> None:
    assert compiled(text, SECRET) == found


@settings(max_examples=200, deadline=None)
@given(st.text("aB3_xQ9-", min_size=16, max_size=40), st.sampled_from(NAMES))
def test_quoted_values(value: str, name: str) -> None:
    known = [value] if quoted(value) else []
    assert compiled(f'my_{name} = "{value}" # note', SECRET) == known


@settings(max_examples=200, deadline=None)
@given(st.lists(TEXT, max_size=4))
def test_none_lies_over_another(parts: list[str]) -> None:
    texts = Texts(parts)
    text, kind, start, stop = find_spans(texts.data, texts.offsets, ALL)
    assert (start < stop).all()
    assert (start[1:] >= stop[:-1]).all()
    assert (texts.offsets[text] <= start).all()
    assert (stop <= texts.offsets[text + 1]).all()
    measured = ContactsAndSecrets().measure(texts)
    for column, bit in (("urls", URL), ("emails", EMAIL), ("phones", PHONE), ("ips", IP), ("secrets", SECRET)):
        assert measured[column].tolist() == [int(((text == at) & (kind == bit)).sum()) for at in range(len(parts))]
    for at, part in enumerate(parts):
        mine = (text == at) & (kind == URL)
        assert measured["url_ratio"][at] == ((stop - start)[mine].sum() / len(part) if part else 0)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 300))
def test_no_bytes_break_it(content: bytes, cut: int) -> None:
    data = np.frombuffer(content, np.uint8)
    find_spans(data, np.array([0, min(cut, len(content)), len(content)]), ALL)


def test_many_matches() -> None:
    assert compiled("a@b.org " * 500, EMAIL) == ["a@b.org"] * 500


def test_the_kit() -> None:
    check_signal(ContactsAndSecrets())
