"""The grammar of forwarded ports."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core import ConfigError, UsageError, ports
from sansnet_core.addresses import parse as address
from sansnet_core.ports import TCP, UDP, ForwardRule, combine, parse, parse_all, without


def forward(first: int, last: int | None = None, to: int | None = None, **more: object) -> ForwardRule:
    fields = {"protocol": TCP, "first": first, "last": last or first, "to": to or first} | more
    return ForwardRule(**fields)  # type: ignore[arg-type]  # as keywords


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("none", []),
        ("80", [forward(80)]),
        ("80:8080", [forward(80, to=8080)]),
        ("8000-8010", [forward(8000, 8010)]),
        ("8080-8080:80-80", [forward(8080, to=80)]),
        ("8000-8010:9000-9010", [forward(8000, 8010, 9000)]),
        ("22,8000-8001:80-81", [forward(22), forward(8000, 8001, 80)]),
        ("192.0.2.1/80", [forward(80, address=address("192.0.2.1"))]),
        ("0.0.0.0/80", [forward(80, address=bytes(4))]),
        ("::1/8080-8080:80-80", [forward(8080, to=80, address=address("::1"))]),
        ("[::1]/80", [forward(80, address=address("::1"))]),
        ("*/80", [forward(80)]),
        ("*%eth0/80", [forward(80, interface="eth0")]),
        ("%eth0/80", [forward(80, interface="eth0")]),
        ("192.0.2.1%eth0/80", [forward(80, address=address("192.0.2.1"), interface="eth0")]),
        ("fe80::1%eth0/80", [forward(80, address=address("fe80::1"), interface="eth0")]),
        ("[fe80::1]%eth0/80", [forward(80, address=address("fe80::1"), interface="eth0")]),
        ("[fe80::1%eth0]/80", [forward(80, address=address("fe80::1"), interface="eth0")]),
        ("80:10.0.0.1", [forward(80, address=bytes(4), target=address("10.0.0.1"))]),
        ("80:10.0.0.1/8080", [forward(80, to=8080, address=bytes(4), target=address("10.0.0.1"))]),
        ("192.0.2.1/80:10.0.0.1/81", [
            forward(80, to=81, address=address("192.0.2.1"), target=address("10.0.0.1"))
        ]),
        ("80:2001:db8::1", [forward(80, address=bytes(16), target=address("2001:db8::1"))]),
        ("80:[2001:db8::1]/81", [forward(80, to=81, address=bytes(16), target=address("2001:db8::1"))]),
        ("80:fe80::1/81", [forward(81, address=address("80:fe80::1"))]),
        ("8000-8010:10.0.0.1/9000-9010", [
            forward(8000, 8010, 9000, address=bytes(4), target=address("10.0.0.1"))
        ]),
        ("all", [forward(1, 65535, weak=True)]),
        ("all:10.0.0.1", [forward(1, 65535, weak=True, address=bytes(4), target=address("10.0.0.1"))]),
        ("all,~80", [forward(1, 79, weak=True), forward(81, 65535, weak=True)]),
        ("~80", [forward(1, 79, weak=True), forward(81, 65535, weak=True)]),
        ("::/~1-79,~81-65535", [forward(80, weak=True, address=bytes(16))]),
        ("8000-8010:9000-9010,~8005", [forward(8000, 8004, 9000), forward(8006, 8010, 9006)]),
        ("~8005,8000-8010", [forward(8000, 8004), forward(8006, 8010)]),
        ("all,80:8080", [forward(80, to=8080), forward(1, 79, weak=True), forward(81, 65535, weak=True)]),
        ("auto", [forward(1, 65535, weak=True, auto=True)]),
        ("::1/auto", [forward(1, 65535, weak=True, auto=True, address=address("::1"))]),
        ("8000-8010:1-11,auto", [forward(8000, 8010, 1, auto=True)]),
        ("auto,~3-65535", [forward(1, 2, weak=True, auto=True)]),
        ("80,80", [forward(80)]),
        ("80,79-81", [forward(80), forward(79), forward(81)]),
    ],
)  # fmt: skip
def test_a_specification_means_forwards(spec: str, expected: list[ForwardRule]) -> None:
    assert parse(spec, TCP) == tuple(expected)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("", "has nothing in place of a port"),
        ("0", "between 1 and 65535"),
        ("65536", "between 1 and 65535"),
        ("1-65536", "between 1 and 65535"),
        ("81-80", "ends before it begins"),
        ("80:81-82", "different number of ports"),
        ("80-81:90", "different number of ports"),
        ("80:10.0.0.1/90-91", "different number of ports"),
        ("80,", "has nothing in place of a port"),
        (" 80", "' 80'"),
        ("+80", "'\\+80'"),
        ("8_0", "'8_0'"),
        ("\u0668\u0660", "range"),
        ("80:", "has nothing after the colon"),
        ("80:host", "after the colon"),
        ("80:10.0.0.1/", "in place of a port"),
        ("all:", "after the colon"),
        ("all:80", "after the colon"),
        ("auto:80", "'auto'"),
        ("none,80", "'none'"),
        ("~", "has nothing in place of a port"),
        ("~80:81", "'80:81'"),
        ("80,~80", "leave out a ~"),
        ("~1-65535", "leave out a ~"),
        ("/80", "neither an address"),
        ("host/80", "neither an address"),
        ("[192.0.2.1]/80", "neither an address"),
        ("192.0.2.1%/80", "name of an interface"),
        ("%a-very-long-name/80", "name of an interface"),
        ("%a\0b/80", "name of an interface"),
        ("%\ud800/80", "name of an interface"),
        ("192.0.2.1/", "in place of a port"),
        ("%\udc80/", "in place of a port"),
        ("192.0.2.1", "'192.0.2.1'"),
        ("224.0.0.1/80", "multicast"),
        ("80:224.0.0.1", "cannot be the address of a node"),
        ("80:127.0.0.1", "cannot be the address of a node"),
        ("80:0.0.0.0", "cannot be the address of a node"),
        ("::1/80:10.0.0.1", "one family"),
        ("80:8080,80:8081", "contradict each other"),
        ("80,79-81:179-181", "port 80"),
        ("127.0.0.1:8080:80", "write a slash: 127.0.0.1/8080:80"),
        ("[::1]:80", "write a slash: \\[::1\\]/80"),
        ("*:80", "write a slash: \\*/80"),
        ("80/tcp", "leave out '/tcp'"),
        ("127.0.0.1:80/udp", "leave out '/udp'"),
    ],
)  # fmt: skip
def test_a_wrong_specification_is_quoted_in_one_sentence(spec: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse(spec, TCP)
    assert repr(spec) in str(caught.value) or "contradict" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("127.0.0.1/80", "slash"),
        ("%lo/80", "slash"),
        ("80:10.0.0.1", "address"),
        ("*/80", "slash"),
        ("127.0.0.1:80", "in place of a port"),
    ],
)
def test_from_loopback_to_loopback_there_are_no_addresses(spec: str, words: str) -> None:
    assert parse("80:81", UDP, inbound=False) == (forward(80, to=81, protocol=UDP, inbound=False),)
    with pytest.raises(ConfigError, match=words):
        parse(spec, TCP, inbound=False)


def test_an_option_may_be_repeated() -> None:
    specs = ["80:8080", "[::1]/81", "all"]

    weak = [forward(1, 79, weak=True), forward(82, 65535, weak=True)]
    assert parse_all(specs, TCP) == (forward(80, to=8080), forward(81, address=address("::1")), *weak)
    assert parse_all([], TCP) == parse_all(["none"], TCP) == ()
    assert parse_all(["none", "80"], TCP) == (forward(80),)


def test_none_after_other_ports_contradicts_them() -> None:
    with pytest.raises(ConfigError, match="none"):
        parse_all(["80", "none"], TCP)


@pytest.mark.parametrize(
    ("specs", "together"),
    [
        (["80", "80"], True),
        (["192.0.2.1/80", "192.0.2.2/80:81"], True),
        (["0.0.0.0/80", "[::]/80:81"], True),
        (["%eth0/80", "%eth1/80:81"], True),
        (["80", "192.0.2.1/80"], False),
        (["0.0.0.0/80", "192.0.2.1/80"], False),
        (["80", "%eth0/80"], False),
        (["80", "80:10.0.0.1"], False),
        (["all", "auto", "80:81"], True),
        (["all", "all:10.0.0.1"], False),
    ],
)
def test_of_what_overlaps_both_must_be_possible(specs: list[str], together: bool) -> None:
    if together:
        parse_all(specs, TCP)
    else:
        with pytest.raises(ConfigError, match="leave one out"):
            parse_all(specs, TCP)


def test_protocols_and_directions_are_things_of_their_own() -> None:
    made = [*parse("80", TCP), *parse("80:81", UDP), *parse("80:82", TCP, inbound=False)]

    assert combine(made) == tuple(made)
    assert [each.option for each in made] == ["-t", "-u", "-T"]


def test_too_many_ranges_are_refused_soon() -> None:
    with pytest.raises(ConfigError, match="more than 1024 ranges"):
        parse(",".join(map(str, range(1, 60001, 2))), TCP)
    with pytest.raises(ConfigError, match="more than 1024 ranges"):
        combine(forward(port) for port in range(1, 60001))


@pytest.mark.parametrize(
    "specs",
    [
        [",".join(str(10_000 + 2 * number) for number in range(1024))],
        [str(10_000 + number) for number in range(1024)],
        [f"%e{number}/{10_000 + number}" for number in range(1024)],
    ],
    ids=["one specification", "neighbours", "interfaces"],
)
def test_many_ranges_cost_little(specs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparing each with each other took a second, in the loop that serves the guest."""
    compared = 0
    beside = ports._beside

    def counted(piece: ForwardRule, old: ForwardRule) -> Iterator[ForwardRule]:
        nonlocal compared
        compared += 1
        return beside(piece, old)

    monkeypatch.setattr(ports, "_beside", counted)
    assert len(parse_all(specs, TCP)) == 1024
    assert compared < 100


def test_ports_may_be_taken_away() -> None:
    whole = forward(10, 20, 110)

    assert list(without(whole, range(12, 15))) == [forward(10, 11, 110), forward(15, 20, 115)]
    assert list(without(whole, range(20, 30))) == [forward(10, 19, 110)]
    assert list(without(whole, range(5, 11))) == [forward(11, 20, 111)]
    assert list(without(whole, range(30, 40))) == list(without(whole, range(0))) == [whole]
    assert list(without(whole, range(10, 21))) == []


PORTS = st.integers(1, 65535)
NODES = [address(text) for text in ("10.0.0.1", "192.0.2.7", "2001:db8::7", "fe80::1")]
LISTENING = st.sampled_from([None, bytes(4), bytes(16), address("127.0.0.1"), address("::1"), *NODES])


@st.composite
def forwards(draw: st.DrawFn) -> ForwardRule:
    """Any rule that has a specification."""
    inbound = draw(st.booleans())
    weak, auto = draw(st.booleans()), draw(st.booleans())
    first, last = sorted([draw(PORTS), draw(PORTS)])
    to = first if weak else draw(st.integers(1, 65535 - (last - first)))
    where = draw(LISTENING) if inbound else None
    targets = [None] if where is None else [None, *(node for node in NODES if len(node) == len(where))]
    return ForwardRule(
        protocol=draw(st.sampled_from([TCP, UDP])),
        first=first,
        last=last,
        to=to,
        address=where,
        interface=draw(st.sampled_from([None, "eth0", "tun-1.5"])) if inbound else None,
        target=draw(st.sampled_from(targets)),
        inbound=inbound,
        weak=weak,
        auto=auto,
    )


@given(forwards())
def test_what_a_forward_says_of_itself_means_the_same(made: ForwardRule) -> None:
    assert parse(made.spec(), made.protocol, inbound=made.inbound) == (made,)


SMALL = st.tuples(st.integers(1, 12), st.integers(0, 5)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(st.lists(st.tuples(st.booleans(), SMALL, st.sampled_from([None, 100])), min_size=1, max_size=6))
def test_exclusions_are_those_of_sets(chunks: list[tuple[bool, tuple[int, int], int | None]]) -> None:
    """A model: a dict of the included ports and their targets, from which the excluded ones are removed at the end."""
    words: list[str] = []
    included: dict[int, set[int]] = {}
    excluded: set[int] = set()
    for exclude, (first, last), offset in chunks:
        ports = range(first, last + 1)
        if exclude:
            words.append(f"~{first}-{last}")
            excluded.update(ports)
        else:
            words.append(f"{first}-{last}" + (f":{first + offset}-{last + offset}" if offset else ""))
            for port in ports:
                included.setdefault(port, set()).add(port + (offset or 0))
    if not included:
        included = {port: {port} for port in range(1, 65536)}
    left = {port: to for port, to in included.items() if port not in excluded}
    contradiction = any(len(to) > 1 for to in left.values())

    # Contradictory ports may be excluded, so that the contradiction does not matter
    if not left or contradiction:
        with pytest.raises(ConfigError):
            parse(",".join(words), TCP)
        return
    made = parse(",".join(words), TCP)
    assert {port: {each.leads_to(port)} for each in made for port in each.ports} == left
    assert sum(len(each.ports) for each in made) == len(left)


ALPHABET = st.sampled_from(
    ["80", "1", "-", ":", "/", ",", "~", "all", "auto", "none", "*", "%", "[", "]", "::1", ".", "x"]
)


@given(st.lists(ALPHABET, max_size=8).map("".join) | st.text(st.characters(), max_size=20), st.booleans())
def test_whatever_is_given_there_is_one_kind_of_error(spec: str, inbound: bool) -> None:
    with suppress(ConfigError):
        for each in parse(spec, UDP, inbound=inbound):
            assert 1 <= each.first <= each.last <= 65535
            assert each.to >= 1
            assert each.leads_to(each.last) <= 65535
            assert inbound or (each.address, each.target, each.interface) == (None, None, None)


@given(st.lists(forwards(), max_size=5))
def test_what_is_combined_has_no_overlaps_and_stays_as_it_is(made: list[ForwardRule]) -> None:
    try:
        combined = combine(made)
    except ConfigError:
        return
    assert combine(combined) == combined
    strong = [each for each in made if not each.weak]
    assert {(each.option, port) for each in strong for port in each.ports} <= {
        (each.option, port) for each in combined for port in each.ports
    }


def test_the_documentation_shows_what_the_parser_understands() -> None:
    from docs.forwards import render

    shown = re.search(r"<!-- ports -->\n(.*?)<!-- /ports -->", Path("docs/forwarding.md").read_text(), re.DOTALL)
    assert shown
    assert shown[1] == render()


@pytest.mark.parametrize("spec", ["[::1]:\n", "80:\n", "\n/80", "lo%\n/80", "80,~\n", "127.0.0.1:\x1b"])
def test_an_error_is_one_line_of_printable_characters(spec: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(spec, TCP)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"protocol": 1}, "protocol: 1 is neither ports.TCP nor ports.UDP"),
        ({"last": 79}, "last: 79 is below first, 80; give a range that begins before it ends"),
        ({"last": 89, "to": 65530}, "to: 10 ports from 65530 end beyond 65535; give a lower one"),
    ],
)
def test_a_rule_leads_from_ports_to_ports(fields: dict[str, int], problem: str) -> None:
    with pytest.raises(ConfigError, match=f"^{problem}$"):
        forward(80, **fields)


def test_one_specification_is_not_several() -> None:
    with pytest.raises(UsageError, match=r"^specs: '80' is one specification; give \['80'\]$"):
        parse_all("80", TCP)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 16])
def test_the_interface_of_a_rule_has_a_possible_name(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^interface: {re.escape(repr(name))} is not a possible name"):
        forward(80, interface=name)
