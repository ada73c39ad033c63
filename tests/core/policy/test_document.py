"""Policy files: what they mean, how they are written, and the place of each error."""

from __future__ import annotations

import pickle
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sansnet_core import Action, ConfigError, Endpoint, Rule
from sansnet_core.policy import (
    PRESETS,
    NameMode,
    Policy,
    PolicyError,
    PolicyFile,
    ProxyConfig,
    ProxyKind,
    dump_policy,
    load_policy,
    parse_credentials,
    parse_rule,
)
from sansnet_core.policy.cases import Case
from sansnet_core.policy.positions import Path, lines
from sansnet_core.records import replace
from tests.core.policy.test_text import labelled

FILE = """\
default = "refuse"            # a comment
names = "own"
rules = [
    "allow tcp git.example.org:22",
    "refuse metadata",
]

[[rule]]
label = "packages"
action = "allow"
protocol = "tcp"
to = ["packages.example.org", "*.cdn.example.net",
      "10.0.0.0/8",
      "private"]
port = [443, "8000-8100"]
via = "office"

[[rule]]
action = "redirect"
direction = "out"
protocol = ["tcp", "udp"]
to = "api.example.org:443"
redirect = "127.0.0.1:8443"
check = "none"

[[rule]]
action = "refuse"
errno = "ECONNREFUSED"
to = "db.example.org"
at = ["private", "fc00::/7"]

[[rule]]
action = "allow"
to = "a.org"
records = ["CAA"]

[[proxy]]
name = "office"
kind = "socks5"
server = "10.0.0.1:1080"
credentials = "FILE"

[[case]]
label = "the site"
to = "packages.example.org:443"
expect = "refuse"

[[case]]
question = "a.org"
type = "CAA"
expect = "allow"
"""


def load(text: str) -> PolicyFile:
    return load_policy(text, file="policy.toml", read=lambda name: "me:it's\n" if name == "FILE" else "")


def test_a_file_has_rules_proxies_and_cases() -> None:
    found = load(FILE)
    expected = [
        "allow tcp git.example.org:22",
        "refuse metadata",
        "allow tcp packages.example.org,*.cdn.example.net port 443,8000-8100 label=packages via=office",
        "allow tcp 10.0.0.0/8,private port 443,8000-8100 label=packages via=office",
        "redirect out tcp,udp api.example.org:443 to 127.0.0.1:8443 check=none",
        "refuse(ECONNREFUSED) db.example.org at fc00::/7,private",
        "allow a.org records=CAA",
    ]
    assert [str(rule) for rule in found.policy.rules] == expected
    assert found.lines == (4, 5, 8, 8, 18, 26, 32)
    assert (found.policy.default_action, found.policy.names) == (Action.REFUSE, NameMode.OWN)
    assert found.policy.proxies == (
        ProxyConfig(
            name="office", kind=ProxyKind.SOCKS5, server=Endpoint("10.0.0.1", 1080), user="me", password="it's"
        ),
    )
    assert [(case.line, str(case), case.expect) for case in found.cases] == [
        (43, "tcp to packages.example.org:443", "refuse"),
        (48, "question for a.org, type CAA", "allow"),
    ]
    assert found.policy.needs_resolver


def test_a_file_refuses_unless_it_says_otherwise() -> None:
    assert load("").policy == Policy(default_action=Action.REFUSE)
    assert load('preset = "open"').policy == PRESETS["open"]
    found = load('preset = "web"\ndefault = "ask"\nrules = ["allow 10.0.0.0/8"]')
    assert found.policy.rules == (parse_rule("allow 10.0.0.0/8"), *PRESETS["web"].rules)
    assert found.policy.default_action is Action.ASK
    assert found.lines == (3, 0, 0)
    assert not found.policy.needs_resolver


@pytest.mark.parametrize(
    ("old", "new", "place", "problem"),
    [
        ('"refuse"  ', '"refus"  ', "1: default", "'refus' is not one of allow, refuse, drop, ask"),
        ('"refuse"  ', "refuse  ", "1", "it is not TOML: "),
        ('"own"', '"owned"', "2: names", "'owned' is not one of own, real"),
        ('"own"', "5", "2: names", "5 is not one of own, real"),
        ('names = "own"', 'nmes = "own"', "2: nmes", "it is unknown; known are case, default, names, preset"),
        ('names = "own"', 'preset = "wbe"', "2: preset", "'wbe' is not one of none, dns, web, public, open"),
        ('"refuse metadata"', '"refuse metdata/"', "5: rules 2: destination", "'metdata/' is not a network"),
        ('"refuse metadata"', "7", "5: rules 2", "7 is not the text of a rule"),
        ("rules = [", 'rules = "x"\nx = [', "4: x", "it is unknown"),
        ('"refuse metadata"', "{action = 'allow'}", "3: rules", "write \\[\\[rule\\]\\] above each table"),
        ('label = "packages"', "label = 5", "9: rule 1: label", "5 is not text; put it into quotes"),
        ('label = "packages"', 'label = ""', "9: rule 1: label", "'' is not a text of"),
        ('action = "allow"\nprotocol', "protocol", "8: rule 1: action", "it has no action; give one of"),
        ('action = "allow"\nprotocol', 'action = "alow"\nprotocol', "10: rule 1: action", "'alow' is not one of"),
        ('protocol = "tcp"', 'protocol = "tpc"', "11: rule 1: protocol", "'tpc' is not one of tcp, udp, ping"),
        ('"10.0.0.0/8"', '"10.0.0.1/8"', "13: rule 1: to: item 3", "has bits beyond its length"),
        ('"private"]', '"*x"]', "14: rule 1: to: item 4", "not its first label"),
        ('"private"]', '"private:80"]', "12: rule 1: to", "the destinations have different ports"),
        ('"private"]', '"any"]', "12: rule 1: to", "'any' stands for all destinations; leave out the others"),
        ('"db.example.org"', '"db.example.org:1"\nport = 1', "30: rule 3: port", "have a port already"),
        ('to = "packages.example.org:443"', 'to = "a b:1"\ndirection = "in"', "45: case 1: to", "is no address"),
        ('"8000-8100"', '"8000-810000"', "15: rule 1: port: item 2", "'8000-810000' is not a port"),
        ("443, ", "0, ", "15: rule 1: port: item 1", "0 is not a port; give an integer between 1 and 65535"),
        ("443, ", "true, ", "15: rule 1: port: item 1", "True is not a port, nor a range"),
        ('port = [443, "8000-8100"]', "port = []", "15: rule 1: port", "it is an empty list"),
        ('via = "office"', 'via = "offic"', "16: rule 1: via", "'offic' is not the name of a proxy; there are: office"),
        ('via = "office"', 'errno = "EPERM"', "16: rule 1: errno", "it has no effect with allow"),
        ('via = "office"', 'at = "private"', "16: rule 1: at", "only names can be restricted to addresses"),
        ('direction = "out"', 'direction = "up"', "20: rule 2: direction", "'up' is not one of in, out"),
        ("redirect = ", "ports = 1\nredirect = ", "23: rule 2: ports", "it is unknown; known are action, at, check"),
        ('redirect = "127.0.0.1:8443"\n', "", "18: rule 2: redirect", "a rule with the action redirect needs it"),
        ('"127.0.0.1:8443"', '"127.0.0.1"', "23: rule 2: redirect", "127.0.0.1:0 has port 0"),
        ('"127.0.0.1:8443"', '"localhost:1"', "23: rule 2: redirect", "'localhost' is not an IP address"),
        ('check = "none"', 'check = "maybe"', "24: rule 2: check", "'maybe' is not one of none, tls, http"),
        ('errno = "ECONNREFUSED"', 'errno = "EWHAT"', "28: rule 3: errno", "'EWHAT' is not an errno"),
        ('["private", "fc00::/7"]', '"a.org"', "30: rule 3: at", "give networks and groups alone"),
        ('records = ["CAA"]', 'records = ["CAB"]', "35: rule 4: records: item 1", "'CAB' is not a type of records"),
        ('name = "office"', "name = 5", "38: proxy 1: name", "5 is not text"),
        ('kind = "socks5"', 'kind = "socks4"', "39: proxy 1: kind", "'socks4' is not one of socks5, http"),
        ('kind = "socks5"\n', "", "37: proxy 1: kind", "it is missing"),
        ('"10.0.0.1:1080"', '"10.0.0.1"', "40: proxy 1: server", "0 is not a port"),
        ('credentials = "FILE"', 'credentials = "X"', "41: proxy 1: credentials", "the first line .* is USER:PASSWORD"),
        ('to = "packages.example.org:443"', "to = 5", "45: case 1: to", "5 is not text"),
        ('to = "packages.example.org:443"', 'to = "a.org"', "45: case 1: to", "'a.org' has no port"),
        ('to = "packages.example.org:443"', 'to = "*.a.org:1"', "45: case 1: to", "is a pattern; give one host name"),
        ('to = "packages.example.org:443"', 'to = "10.0.0.0/8:1"', "45: case 1: to", "is a network; give one of"),
        ('to = "packages.example.org:443"\n', "", "43: case 1: to", "give it for a flow, or question"),
        ('expect = "refuse"\n', "", "43: case 1: expect", "it is missing; give allow, refuse"),
        ('expect = "refuse"', 'expect = "no"', "46: case 1: expect", "'no' is not one of allow, refuse"),
        ('expect = "refuse"', 'expect = "refuse"\nat = "x"', "47: case 1: at", "'x' is not an IP address"),
        ('question = "a.org"', 'question = "a b"', "49: case 2: question", "'a b' has ' '"),
        ('type = "CAA"', 'type = "CAB"', "50: case 2: type", "'CAB' is not a type of records"),
        ("[[case]]\nlabel", "[case]\nlabel", "", "it is not TOML|it is not a list of tables"),
        ("[[proxy]]", "[proxy]", "37: proxy", "it is not a list of tables; write"),
    ],
)
def test_an_error_has_the_line_and_the_field(old: str, new: str, place: str, problem: str) -> None:
    assert FILE.count(old) >= 1
    with pytest.raises(PolicyError, match=problem) as caught:
        load(FILE.replace(old, new, 1))
    error = caught.value
    assert str(error).startswith(f"policy.toml:{place}: " if place else "policy.toml:")
    assert error.file == "policy.toml"
    if ": " in place:
        line, _, field = place.partition(": ")
        assert (error.line, error.field) == (int(line), field)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_two_proxies_of_one_name_are_an_error() -> None:
    proxy = '[[proxy]]\nname = "a"\nkind = "http"\nserver = "[::1]:1"\n'
    with pytest.raises(PolicyError, match=r"^line 6: proxy 2: name: two proxies have the name 'a'; rename one"):
        load_policy(proxy + proxy)


def test_credentials_need_a_reader_and_its_errors_are_those_of_the_file() -> None:
    with pytest.raises(PolicyError, match=r"41: proxy 1: credentials: 'FILE' cannot be read here"):
        load_policy(FILE)

    def read(name: str) -> str:
        raise FileNotFoundError(2, "No such file or directory", name)

    with pytest.raises(PolicyError, match=r"41: proxy 1: credentials: 'FILE' cannot be read: No such file"):
        load_policy(FILE, read=read)


def test_credentials_are_a_line() -> None:
    assert parse_credentials("user:pass:word\r\nmore") == ("user", "pass:word")
    for wrong in ("", "user", ":password", "u:" + "p" * 256):
        with pytest.raises(PolicyError, match=r"credentials|bytes"):
            parse_credentials(wrong)


KEYS = {
    "": ["default", "preset", "names", "rules", "rule", "proxy", "case"],
    '[[rule]]\naction = "allow"\n': [
        *("label", "direction", "protocol", "to", "at", "port", "check", "errno", "redirect", "via", "records")
    ],
    '[[proxy]]\nname = "a"\nkind = "http"\n': ["server", "credentials"],
    '[[proxy]]\nserver = "10.0.0.1:1"\n': ["name", "kind"],
    '[[case]]\nexpect = "allow"\n': ["label", "to", "protocol", "direction", "at", "question", "type"],
    "[[case]]\n": ["expect"],
    "[[rule]]\n": ["action"],
}


@pytest.mark.parametrize(("table", "key"), [(table, key) for table, keys in KEYS.items() for key in keys])
def test_a_value_of_any_kind_is_right_or_an_error_with_its_place(table: str, key: str) -> None:
    values = (
        "1",
        "-1",
        "1.5",
        "nan",
        "true",
        '""',
        '"x y"',
        "[]",
        "[1]",
        "[[]]",
        "[{}]",
        "{}",
        "{a = 1}",
        "1979-05-27",
    )
    errors = []
    for value in values:
        try:
            load(f"{table}{key} = {value}\n")
        except PolicyError as error:
            errors.append(error)
    assert errors
    assert all(error.line for error in errors)


def test_a_file_that_is_too_deep_is_an_error() -> None:
    with pytest.raises(PolicyError, match=r"^p: it is not a policy: its tables are nested too deeply"):
        load_policy("a = " + "[" * 5000 + "]" * 5000, file="p")


def test_a_case_has_addresses_of_a_host_name_alone() -> None:
    assert Case(expect="allow", to="a.org:443", addresses=("192.0.2.1",)).addresses
    with pytest.raises(ConfigError, match=r"^addresses: only a host name has them; leave them out$"):
        Case(expect="allow", to="192.0.2.1:443", addresses=("192.0.2.1",))


def test_a_policy_checks_its_proxies() -> None:
    rule = parse_rule("allow via=office")
    with pytest.raises(PolicyError, match="via: 'office' is not the name of a proxy; there are: none"):
        Policy(rules=(rule,))
    proxy = ProxyConfig(name="office", kind=ProxyKind.HTTP, server=("::1", 1))
    assert Policy(rules=(rule,), proxies=(proxy,)).proxies == (proxy,)
    with pytest.raises(PolicyError, match="proxies: two proxies have the name 'office'"):
        Policy(proxies=(proxy, proxy))


@settings(max_examples=150)
@given(
    rules=st.lists(labelled(), max_size=4),
    default=st.sampled_from(Action),
    names=st.sampled_from([None, *NameMode]),
    comments=st.dictionaries(st.integers(0, 3), st.text(max_size=30), max_size=4),
    head=st.text(max_size=30),
)
def test_a_policy_that_is_written_is_read_as_it_was(
    rules: list[Rule], default: Action, names: NameMode | None, comments: dict[int, str], head: str
) -> None:
    known = {rule.via for rule in rules if rule.via is not None}
    proxies = [ProxyConfig(name=name, kind=ProxyKind.HTTP, server=("::1", 8080)) for name in sorted(known)]
    policy = Policy(rules=rules, default_action=default, names=names, proxies=proxies)
    text = dump_policy(policy, comments, head=head)
    found = load_policy(text)
    assert found.policy == policy
    assert [text.splitlines()[line - 1] for line in found.lines] == ["[[rule]]"] * len(rules)
    assert set(lines(text)) == set(paths(tomllib.loads(text)))
    assert all(each.isprintable() or each == "\n" for each in text)


def test_comments_stand_above_their_rules() -> None:
    policy = Policy(rules=[parse_rule("allow a.org"), parse_rule("refuse b.org")])
    text = dump_policy(policy, {1: ["odd\x1b[2J", "two\nlines"]}, head="Learnt.")
    assert text.startswith("# Learnt.\ndefault = ")
    assert '# odd?[2J\n# two\n# lines\n[[rule]]\naction = "refuse"' in text
    assert dump_policy(PolicyFile(policy=policy)) == dump_policy(policy)


def test_credentials_are_not_written() -> None:
    proxy = ProxyConfig(name="a", kind=ProxyKind.HTTP, server=("::1", 1), user="me", password="secret")
    text = dump_policy(Policy(proxies=(proxy,)))
    assert "secret" not in text
    assert load_policy(text).policy.proxies == (replace(proxy, user=None, password=None),)


# the line of each value

TOML = '''\
a = 1 # [b]
"quoted \\u0041\\"]" = 'x]'
d.e . "f" = """
multi "line" = [
\\""""
g = [ # comment ]
  1,
  [2, "]", {h = 3, i.j = '}'}],

  { k = [
      4 ] },
]
t = 1979-05-27 07:32:00
l = \'\'\'
[[no]]
\'\'\'\'

[m.n] # header
o = ""
[[p]]
q = true
[[p.r]]
s = 0x1F
[[p.r]]
s = -inf
[p.r.u]
v = {}
[[p]]
q = []
[ w . "x y" ]
'''

LINES: dict[Path, int] = {
    ("a",): 1,
    ('quoted A"]',): 2,
    ("d",): 3,
    ("d", "e"): 3,
    ("d", "e", "f"): 3,
    ("g",): 6,
    ("g", 0): 7,
    ("g", 1): 8,
    ("g", 1, 0): 8,
    ("g", 1, 1): 8,
    ("g", 1, 2): 8,
    ("g", 1, 2, "h"): 8,
    ("g", 1, 2, "i"): 8,
    ("g", 1, 2, "i", "j"): 8,
    ("g", 2): 10,
    ("g", 2, "k"): 10,
    ("g", 2, "k", 0): 11,
    ("t",): 13,
    ("l",): 14,
    ("m",): 18,
    ("m", "n"): 18,
    ("m", "n", "o"): 19,
    ("p",): 20,
    ("p", 0): 20,
    ("p", 0, "q"): 21,
    ("p", 0, "r"): 22,
    ("p", 0, "r", 0): 22,
    ("p", 0, "r", 0, "s"): 23,
    ("p", 0, "r", 1): 24,
    ("p", 0, "r", 1, "s"): 25,
    ("p", 0, "r", 1, "u"): 26,
    ("p", 0, "r", 1, "u", "v"): 27,
    ("p", 1): 28,
    ("p", 1, "q"): 29,
    ("w",): 30,
    ("w", "x y"): 30,
}


def paths(value: Any, path: Path = ()) -> list[Path]:
    """The places of all values."""
    found: list[Path] = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        found += [(*path, key), *paths(each, (*path, key))]
    return found


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_value_has_a_line(end: str) -> None:
    text = TOML.replace("\n", end)
    assert set(paths(tomllib.loads(text))) == set(LINES)
    assert lines(text) == LINES
    assert lines(text.rstrip()) == LINES


@pytest.mark.parametrize("key", ["\\n", "a\\u001b[2J"])
def test_an_error_about_a_key_is_one_line_without_commands_for_a_terminal(key: str) -> None:
    with pytest.raises(PolicyError) as raised:
        load_policy(f'["{key}"]\n')
    assert str(raised.value).isprintable()
    assert raised.value.problem.startswith("it is unknown")


def test_a_policy_is_text_and_so_are_credentials() -> None:
    wrong: Any = b""
    with pytest.raises(PolicyError, match="is not the text of a policy"):
        load_policy(wrong, file="policy.toml")

    def read(name: str) -> str:
        return b"\xff".decode()

    with pytest.raises(PolicyError, match="is not text in UTF-8"):
        load_policy(FILE, file="policy.toml", read=read)
