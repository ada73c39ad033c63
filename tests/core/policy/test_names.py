"""Canonical names, and patterns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.policy import canonical
from sansnet_core.policy.names import fitting, matches, pattern

LABEL = "a" * 63


@pytest.mark.parametrize(
    ("given_name", "expected"),
    [
        ("API.GitHub.com", "api.github.com"),
        ("example.org.", "example.org"),
        ("_dmarc.Example.org", "_dmarc.example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("bücher\u3002example", "xn--bcher-kva.example"),
        ("\uff45xample.org", "example.org"),
        ("xn--bcher-kva.Example", "xn--bcher-kva.example"),
        ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
        (f"{LABEL}.org", f"{LABEL}.org"),
        ("localhost", "localhost"),
        (".".join([LABEL, LABEL, LABEL, "a" * 61]), ".".join([LABEL, LABEL, LABEL, "a" * 61])),
    ],
)
def test_a_name_has_one_form(given_name: str, expected: str) -> None:
    assert canonical(given_name) == expected
    assert pattern(given_name) == expected
    assert pattern(f"*.{given_name}") == f"*.{expected}" if len(expected) < 252 else True


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ("", "empty label"),
        (".", "empty label"),
        ("a..org", "empty label"),
        ("a.org..", "empty label"),
        (".a.org", "empty label"),
        (f"{LABEL}a.org", "more than 63"),
        (".".join([LABEL, LABEL, LABEL, "a" * 62]), "more than 253"),
        ("a b.org", "has ' '"),
        ("a\x00.org", "is not a host name"),
        ("a\nb.org", "is not a host name"),
        ("a/b.org", "has '/'"),
        ("user@a.org", "has '@'"),
        ("a:b", "has ':'"),
        ("straße.de", "two ways"),
        ("βόλος.com", "two ways"),
        ("a\u200db.org", "two ways"),
        ("\u2100.org", "is not a host name"),
        ("\ud800.org", "cannot be encoded"),
        (5, "is not a host name"),
        (None, "is not a host name"),
    ],
)
def test_what_is_no_name_is_refused(wrong: str, problem: str) -> None:
    for convert in (canonical, pattern):
        with pytest.raises(ValueError, match=problem):
            convert(wrong)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ("a.*.org", "not its first label"),
        ("*a.org", "not its first label"),
        ("**.a.org", "not its first label"),
        ("*.", "empty label"),
        ("*.*", "not its first label"),
        ("127.1", "neither a host name nor an address"),
        ("2130706433", "neither a host name nor an address"),
        ("0x7f.1", "neither a host name nor an address"),
        ("0x7f000001", "neither a host name nor an address"),
        ("a.0x", "neither a host name nor an address"),
        ("127.0.0.\uff11", "neither a host name nor an address"),
    ],
)
def test_what_is_no_pattern_is_refused(wrong: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        pattern(wrong)


@given(st.lists(st.sampled_from(["a", "b", "org", "x-y", "_z"]), min_size=1, max_size=6), st.data())
def test_a_pattern_matches_the_name_or_all_names_below_it(labels: list[str], data: st.DataObject) -> None:
    name = ".".join(labels)
    below = data.draw(st.integers(0, len(labels)))
    suffix = ".".join(labels[below:])
    assert matches(name, name)
    assert matches("*", name)
    assert matches(f"*.{suffix}", name) is (0 < below < len(labels))
    assert not matches(name, f"x.{name}")
    assert not matches(f"*.{name}", f"bad{name}")
    assert set(fitting(name)) == {"*", *(f"*.{'.'.join(labels[place:])}" for place in range(1, len(labels)))}


@given(st.text(max_size=80))
def test_any_text_is_a_name_or_an_error(text: str) -> None:
    for convert in (canonical, pattern):
        try:
            found = convert(text)
        except ValueError:
            continue
        assert convert(found) == found
        assert found.isascii()
        assert found == found.lower()
