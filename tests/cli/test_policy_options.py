"""The options about what the guest may reach, of `sansnet run` and the other commands with a guest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sansnet_cli.attach import parser as attach_parser
from sansnet_cli.compat.parsed_options import Misuse, ParsedOptions
from sansnet_cli.compat.request import read
from sansnet_cli.options.records import CommandLineError
from sansnet_cli.qemu import parser as qemu_parser
from sansnet_cli.run.parser import parse
from sansnet_cli.runtime.control import Control
from sansnet_cli.runtime.policy import LivePolicy
from sansnet_cli.serve import parser as serve_parser
from sansnet_core import Endpoint, Ipv4Config, NetworkConfig
from sansnet_core.policy import Action, NameMode, Policy, ProxyConfig, ProxyKind, parse_rule
from sansnet_core.records import replace
from sansnet_trio import ControlCommands
from sansnet_trio.plan.setup import Setup

FILE = """\
default = "refuse"
rules = ["allow tcp packages.example.org:443"]
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "policy.toml"
    path.write_text(FILE)
    return str(path)


def made(*arguments: str) -> Policy:
    """The policy of a command line of `sansnet run`."""
    policy = parse([*arguments, "--", "true"]).policy
    assert isinstance(policy, Policy)
    return policy


def rules(*arguments: str) -> list[str]:
    """Its rules about the guest's flows, as text."""
    return [str(rule) for rule in made(*arguments).rules if not rule.inbound]


def refusal(*arguments: str) -> str:
    with pytest.raises(CommandLineError) as caught:
        parse([*arguments, "--", "true"])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_nothing_means_no_policy_and_loads_none_of_its_modules() -> None:
    options = parse(["--", "true"])
    assert (options.policy, options.names, options.resolver, options.audit, options.learn) == (None,) * 5
    script = (
        "import sys; from sansnet_cli.run.command import parse; parse(['-t', '80', '--', 'true']); "
        "print(*(name for name in sys.modules if name.startswith('sansnet_core.policy.') or name == 'tomllib'))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert {name.rpartition(".")[2] for name in done.stdout.split()}.isdisjoint(
        {"text", "document", "presets", "cases", "positions", "tomllib"}
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--allow", "packages.example.org:443"], ["allow out tcp packages.example.org:443"]),
        (["--allow", "*.cdn.example.net port 443,8000-8100"], ["allow out tcp *.cdn.example.net port 443,8000-8100"]),
        (["--allow", "udp 192.0.2.53:53"], ["allow out udp 192.0.2.53:53"]),
        (["--allow", "192.0.2.0/24"], ["allow out 192.0.2.0/24"]),
        (["--allow", "[2001:db8::1]:443"], ["allow out tcp [2001:db8::1]:443"]),
        (["--allow", "ping public"], ["allow out ping public"]),
        (["--refuse", "192.0.2.1:80"], ["refuse out 192.0.2.1:80"]),
        (
            ["--allow", "a.example:1", "--refuse", "private", "--allow", "b.example"],
            ["allow out tcp a.example:1", "refuse out private", "allow out b.example"],
        ),
        (["--allow", "API.Example.COM."], ["allow out api.example.com"]),
    ],
)
def test_rules_of_the_command_line_keep_their_order(arguments: list[str], expected: list[str]) -> None:
    assert rules(*arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "default"),
    [
        (["--allow", "a.example"], Action.REFUSE),
        (["--allow", "a.example", "--refuse", "b.example"], Action.REFUSE),
        (["--refuse", "private"], Action.ALLOW),
        (["--preset", "none"], Action.REFUSE),
        (["--preset", "web"], Action.REFUSE),
        (["--preset", "open", "--allow", "10.0.0.1", "--refuse", "private"], Action.ALLOW),
        (["--ask"], Action.ASK),
        (["--ask", "--preset", "web"], Action.ASK),
        (["--ask", "--allow", "a.example"], Action.ASK),
    ],
)
def test_the_default_action(arguments: list[str], default: Action) -> None:
    assert made(*arguments).default_action is default


def test_rules_of_the_command_line_come_before_those_of_the_file(file: str) -> None:
    assert rules("--policy", file, "--refuse", "*.example.org") == [
        "refuse out *.example.org",
        "allow tcp packages.example.org:443",
    ]
    assert made("--policy", file).default_action is Action.REFUSE


def test_forwarded_ports_are_open_unless_a_rule_closes_them(file: str) -> None:
    for arguments in (["--allow", "a.example"], ["--policy", file], ["--preset", "none"]):
        assert str(made(*arguments).rules[-1]) == 'allow in label="forwarded ports"'
    assert made("--refuse", "private").rules[0].inbound is False
    assert [str(rule) for rule in made("--refuse", "in 192.0.2.0/24").rules] == ["refuse in 192.0.2.0/24"]


def test_every_command_with_a_guest_has_the_options(file: str) -> None:
    words = ["--policy", file, "--allow", "a.example:443", "--names", "real", "--audit", "a", "--learn", "b"]
    several: list[Any] = [
        parse([*words, "true"]),
        attach_parser.parse([*words, "1"]),
        serve_parser.parse(["--socket", "x", *words]),
        qemu_parser.parse([*words, "--"]),
    ]
    for options in several:
        assert isinstance(options.policy, Policy)
        assert (options.policy, options.policy.names) == (several[0].policy, NameMode.REAL)
        assert (options.names, options.resolver, options.audit, options.learn) == (NameMode.REAL, True, "a", "b")


@pytest.mark.parametrize("option", [["--audit", "a"], ["--learn", "a"], ["--ask"], ["--proxy", "http://192.0.2.1:1"]])
def test_options_about_names_turn_the_resolver_on(option: list[str]) -> None:
    assert parse([*option, "--", "true"]).resolver is True


def test_a_proxy_carries_all_that_is_allowed() -> None:
    policy = made("--proxy", "socks5h://192.0.2.1:1080", "--allow", "a.example:1", "--refuse", "b.example")
    assert policy.proxies == (ProxyConfig(name="--proxy", kind=ProxyKind.SOCKS5, server=Endpoint("192.0.2.1", 1080)),)
    assert [rule.via for rule in policy.rules] == ["--proxy", None, None]
    assert [rule.via for rule in made("--proxy", "http://[2001:db8::1]:3128/").rules] == ["--proxy"]
    assert [rule.via for rule in made("--proxy", "http://localhost:1", "--preset", "web").rules] == [
        None,
        "--proxy",
        None,
    ]


def test_a_proxy_has_credentials_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    path.write_text("user:pass:word\n")
    path.chmod(0o600)
    [proxy] = made("--proxy", "http://192.0.2.1:3128", "--proxy-credentials", str(path)).proxies
    assert (proxy.user, proxy.password) == ("user", "pass:word")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--allow", "https://example.org/"], "--allow 'https://example.org/' is a URL; give example.org:443"),
        (["--allow", "tcp://example.org:8443/x"], "give example.org:8443"),
        (["--allow", "443"], "write 'port 443'"),
        (["--allow", "example.org:http"], "'http' is not a port"),
        (["--allow", "exa mple.org"], "is not expected there"),
        (["--allow", "*example.org"], "write '*.example.org'"),
        (["--allow", ""], "--allow"),
        (["--refuse", "10.0.0.0/33"], "--refuse '10.0.0.0/33'"),
        (["--preset", "wbe"], "did you mean web"),
        (["--names", "fake", "--ask"], "own, real"),
        (["--names", "own"], "give one by --policy, --allow or --preset"),
        (["--policy", "/nonexistent/policy"], "cannot be read (No such file or directory)"),
        (["--policy", "-"], "--policy - would read stdin"),
        (["--audit", "-"], "cannot write to stdout"),
        (["--learn", ""], "names no file"),
        (["--audit", "x", "--learn", "./x"], "--learn would overwrite the file of --audit"),
        (["--proxy-credentials", "x"], "needs --proxy URL"),
        (["--nat64", "2001:db8::/96"], "--nat64 needs a policy"),
        (["--allow", "example.org", "--nat64", "2001:db8::/99"], "is not the prefix of a translator"),
        (["--allow", "example.org", "--nat64", "x"], "--nat64"),
        (["--proxy", "192.0.2.1:1080"], "give socks5://HOST:PORT or http://HOST:PORT"),
        (["--proxy", "https://192.0.2.1:1080"], "give socks5://HOST:PORT or http://HOST:PORT"),
        (["--proxy", "socks5://192.0.2.1"], "give socks5://HOST:PORT"),
        (["--proxy", "socks5://192.0.2.1:0"], "no port from 1 to 65535"),
        (["--proxy", "socks5://user:pass@192.0.2.1:1080"], "put USER:PASSWORD into a file"),
        (["--proxy", "socks5://name.invalid:1080"], "give its address"),
        (["--proxy", "http://192.0.2.1:1", "--proxy-credentials", "/nonexistent"], "cannot be read"),
        (["--allow", "a.example", "-D", "none"], "leave out -D none"),
        (["--audit", "x", "-D", "none"], "leave out -D none"),
        (["--allow", "a.example", "-D", "127.0.0.1", "-U", "53"], "leave out -D 127.0.0.1"),
    ],
)
def test_a_mistake_is_answered_with_its_remedy(arguments: list[str], words: str) -> None:
    assert words in refusal(*arguments)


def test_a_file_is_not_combined_with_a_preset(file: str) -> None:
    assert 'write preset = "web" into' in refusal("--policy", file, "--preset", "web")


def test_a_policy_that_would_be_overwritten_is_kept(file: str) -> None:
    assert "--learn would overwrite the file of --policy" in refusal("--policy", file, "--learn", file)
    assert Path(file).read_text() == FILE


def test_a_wrong_file_is_named_with_line_and_field(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text('default = "refuse"\n\n[[rule]]\naction = "allow"\nport = [443, 99999]\n')
    said = refusal("--policy", str(path))
    assert said.startswith(f"{path}:5: rule 1: port")
    assert f"`sansnet policy check {path}`" in said


def test_credentials_are_beside_the_policy(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("me:word\n")
    (tmp_path / "secret").chmod(0o600)
    path = tmp_path / "policy.toml"
    path.write_text(
        'rules = ["allow tcp via=office"]\n'
        '[[proxy]]\nname = "office"\nkind = "socks5"\nserver = "192.0.2.1:1080"\ncredentials = "secret"\n'
    )
    [proxy] = made("--policy", str(path)).proxies
    assert (proxy.user, proxy.password) == ("me", "word")
    (tmp_path / "secret").chmod(0o644)
    assert f"run chmod 600 {tmp_path / 'secret'}" in refusal("--policy", str(path))


# pasta and passt


@pytest.mark.parametrize("program", ["pasta", "passt"])
def test_the_compatible_programs_have_a_policy(
    program: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = str(tmp_path / "audit")
    monkeypatch.chdir(tmp_path)
    by_option = read(ParsedOptions(program, ["--policy", file, "--audit=audit"])).options
    monkeypatch.setenv("SANSNET_POLICY", file)
    monkeypatch.setenv("SANSNET_AUDIT", audit)
    by_environment = read(ParsedOptions(program, [])).options
    for options in (by_option, by_environment):
        assert isinstance(options.policy, Policy)
        assert str(options.policy.rules[0]) == "allow tcp packages.example.org:443"
        assert (options.audit, options.resolver, options.dns) == (audit, True, None)


def test_an_option_is_stronger_than_the_environment(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other.toml"
    other.write_text('default = "allow"\n')
    monkeypatch.setenv("SANSNET_POLICY", file)
    policy = read(ParsedOptions("passt", ["--policy", str(other)])).options.policy
    assert policy is not None
    assert policy.rules == ()
    monkeypatch.setenv("SANSNET_POLICY", "")
    assert read(ParsedOptions("passt", [])).options.policy is None


def test_under_a_policy_pasta_opens_no_port_of_the_host_by_itself(file: str) -> None:
    def opened(*words: str) -> list[str]:
        return [forward.option for forward in read(ParsedOptions("pasta", words)).options.ports.forwards]

    assert opened() == ["-t", "-u", "-T", "-U"]
    assert opened("--policy", file) == ["-t", "-u"]
    assert opened("--policy", file, "-T", "80", "-t", "none") == ["-u", "-T"]


def test_a_wrong_policy_is_misuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "policy.toml"
    path.write_text("x = 1\n")
    with pytest.raises(Misuse, match=r"policy\.toml:1: x"):
        read(ParsedOptions("pasta", ["--policy", str(path)]))
    monkeypatch.setenv("SANSNET_POLICY", "/nonexistent")
    with pytest.raises(Misuse, match="cannot be read"):
        read(ParsedOptions("pasta", []))


@pytest.mark.parametrize(("words", "time"), [([], 30.0), (["--ask-time", "5"], 5.0), (["--ask-time", "0.5e2"], 50.0)])
def test_the_time_for_an_answer(words: list[str], time: float) -> None:
    assert parse(["--ask", *words, "true"]).limits.decision_time == time


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ask", "--ask-time", "0"], "--ask-time 0 is not between 1 and 3600 seconds"),
        (["--ask", "--ask-time", "nan"], "--ask-time nan is not between 1 and 3600 seconds"),
        (["--ask", "--ask-time", "1e9"], "--ask-time 1e.09 is not between"),
        (["--ask", "--ask-time", "soon"], "soon"),
        (["--ask-time", "5"], "--ask-time needs --ask, or a policy that asks"),
        (["--preset", "web", "--ask-time", "5"], "--ask-time needs --ask, or a policy that asks"),
    ],
)
def test_a_wrong_time_for_an_answer_is_named(words: list[str], said: str) -> None:
    with pytest.raises(CommandLineError, match=said):
        parse([*words, "true"])


# while it runs


def test_forwarded_ports_stay_open_when_the_policy_is_replaced() -> None:
    rules = [parse_rule("allow tcp a.example:443")]
    config = NetworkConfig(ipv4=Ipv4Config(address="10.0.0.2/24", gateway="10.0.0.1"), dns_servers=["10.0.0.1"])
    setup = Setup(config=replace(config, rules=rules, default_action=Action.REFUSE), interface=None, warnings=())
    commands = ControlCommands()
    Control(commands).set_policed(LivePolicy(lambda: setup))

    def changed(change: str, asked: object) -> list[str]:
        answer = commands.answer({"command": "policy", change: asked})
        return list(answer["rules"])

    assert changed("replace", 'default = "drop"\n') == ['allow in label="forwarded ports"']
    assert changed("replace", 'rules = ["refuse in any"]\n') == ["refuse in", 'allow in label="forwarded ports"']
    assert changed("replace", 'default = "allow"\n') == []
    changed("replace", 'default = "drop"\n')
    assert changed("remove", ["forwarded ports"]) == []
    assert changed("add", ["allow udp"]) == ["allow udp"], "what was removed stays so"


def test_the_kind_of_names_stays_when_a_policy_does_not_tell_it() -> None:
    config = NetworkConfig(ipv4=Ipv4Config(address="10.0.0.2/24", gateway="10.0.0.1"), dns_servers=["10.0.0.1"])
    setup = Setup(config=config, interface=None, warnings=())
    policy = LivePolicy(lambda: setup)
    policy.set_policy(Policy(default_action=Action.REFUSE, names=NameMode.REAL))
    policy.set_policy(Policy(rules=[parse_rule("allow tcp a.example:443")]))
    assert policy.policy.names is NameMode.REAL
    resolver = policy.applied(setup).config.resolver
    assert resolver is not None
    assert resolver.names is NameMode.REAL
