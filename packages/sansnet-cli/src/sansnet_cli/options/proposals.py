"""Proposals for wrong command lines: the nearest word, or the option for one of another program.

Loaded only when a command line is wrong.
"""

from __future__ import annotations

import difflib
import re
import shutil
from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

__all__ = ["explain", "unknown_command"]


class _Foreign(NamedTuple):
    """Options of docker, podman, slirp4netns, pasta, unshare and others, and the advice for each.

    Attributes:
        names: names of the options, with spaces between them.
        ours: the advice is only for commands that have this option; empty for all commands.
        text: the advice.
    """

    names: str
    ours: str
    text: str


_FOREIGN: Final = (
    _Foreign("--publish --port --ports --expose --forward", "-t", "give ports by -t (TCP) or -u (UDP), as -t 8080:80"),
    _Foreign("--publish-all -P", "-T", "give -t auto for all ports on which programs in the guest listen"),
    _Foreign("--background --daemon --daemonize --detach -d", "--background", "give --background"),
    _Foreign(
        "--background --daemon --daemonize --detach -d", "", "sansnet stays in the foreground; put & behind the line"
    ),
    _Foreign(
        "--net --network",
        "-T",
        "the guest has a network of its own; give -t for ports that lead to it, -T for those of the host's loopback",
    ),
    _Foreign("--net --network", "-t", "the guest has a network of its own; give -t for ports that lead to it"),
    _Foreign("--rm --init", "", "nothing is left of a guest when it ends; leave it out"),
    _Foreign("--interactive --tty", "--root", "the command has your terminal; leave it out"),
    _Foreign("--env --env-file -e", "--root", "the command has your environment; leave it out"),
    _Foreign("--workdir --cwd --chdir -w", "--root", "the command starts in your working directory; leave it out"),
    _Foreign("--volume --mount", "--root", "the command sees all files of the host that you see; leave it out"),
    _Foreign(
        "--privileged --cap-add", "--root", "give --root, which gives the command all capabilities over its network"
    ),
    _Foreign(
        "--user --uid --map-root-user --map-current-user --fakeroot -r",
        "--root",
        "the command runs as your own user, or with --root as root in its network",
    ),
    _Foreign("--add-host", "--host", "give --host NAME=ADDR"),
    _Foreign("--ip --ip6 --cidr", "-a", "give the guest's address by -a ADDR/LEN"),
    _Foreign(
        "--mac --mac-addr --mac-address --macaddress -M",
        "--ns-mac-addr",
        "give the guest's Ethernet address by --ns-mac-addr",
    ),
    _Foreign("--debug --trace", "-v", "give -v for more messages, or -p FILE for a capture of all frames"),
    _Foreign("--capture --write", "-p", "give -p FILE for a capture of all frames"),
    _Foreign("--stats", "-c", "give -c PATH, and run `sansnet ctl PATH counters`"),
    _Foreign("--log-file --log-size --stderr -l", "", "messages go to stderr; redirect it, as by 2>FILE"),
    _Foreign("--target", "--userns", "give the process id without an option, as in `sansnet attach 4242`"),
    _Foreign("--pid", "", "the shell has the process id of a command that it started in $!"),
    _Foreign("--runas", "", "sansnet runs as the user that started it; leave it out"),
    _Foreign("--no-copy-routes --no-copy-addrs", "-a", "give the guest's address by -a and its gateway by -g"),
    _Foreign("--dhcp-dns --dhcp-search", "-D", "DHCP always sends name servers and search domains; leave it out"),
    _Foreign("--no-dhcp-dns --disable-dns --no-dns", "-D", "give -D none"),
    _Foreign("--no-dhcp-search --no-search", "-S", "give -S none"),
    _Foreign("--dns-search", "-S", "give search domains by -S"),
    _Foreign("--no-dhcpv6 --no-dhcp6", "--no-dhcp", "give --no-dhcp, which includes DHCPv6"),
    _Foreign("--no-ra", "--no-ndp", "give --no-ndp, which includes router advertisements"),
    _Foreign("--no-ipv6 --disable-ipv6 --ipv4", "-4", "give -4 for IPv4 only"),
    _Foreign("--no-ipv4 --disable-ipv4 --ipv6", "-6", "give -6 for IPv6 only"),
    _Foreign("--enable-ipv6 --configure", "", "that is the default; leave it out"),
    _Foreign(
        "--disable-host-loopback --no-host-loopback",
        "",
        "the host's loopback is closed unless an option opens it; leave it out",
    ),
    _Foreign("--outbound-addr --bind --source", "-o", "give the source address by -o"),
    _Foreign("--api-socket --control", "-c", "give -c PATH, and run `sansnet ctl PATH`"),
    _Foreign("--userns-path", "--userns", "give --userns PATH"),
    _Foreign(
        "--netns --userns --netns-only --target",
        "--root",
        "`sansnet run` makes a namespace; for an existing one use `sansnet attach`",
    ),
    _Foreign("--splice-only", "--no-tcp", "give --no-tcp --no-udp --no-icmp, and ports by -t and -T"),
    _Foreign("--deny --deny-out --block --reject", "--refuse", "give --refuse DEST"),
    _Foreign(
        "--allow-net --allow-host --allow-domain --allow-out --allowlist --whitelist",
        "--allow",
        "give --allow NAME:PORT, once for each",
    ),
    _Foreign("--rules --policy-file --policies", "--policy", "give --policy FILE"),
    _Foreign("--audit-log --audit-file", "--audit", "give --audit FILE"),
    _Foreign(
        "--http-proxy --https-proxy --socks --socks5 --upstream",
        "--proxy",
        "give --proxy socks5://HOST:PORT, or http://",
    ),
    _Foreign("-V", "", "give --version"),
)

_FOREIGN_COMMANDS: Final = {
    "run": "exec start shell enter spawn unshare",
    "attach": "connect join nsenter container",
    "serve": "server listen daemon vm",
    "policy check FILE": "rules firewall lint",
    "ctl PATH list": "status ps list ls ports port flows counters stats control add delete",
    "--help": "usage -? /?",
    "--version": "-V -v",
}
"""Other words that users may try, by the command or option that they may mean."""


def explain(message: str, options: Collection[str]) -> str:
    """Add a proposal to a message of argparse, if there is one.

    Args:
        message: the message of argparse.
        options: all options of the command.
    """
    if found := re.fullmatch(r"unrecognized arguments: (\S+).*", message, re.DOTALL):
        hint = _unknown_argument(found[1], options)
        return f"{message}; {hint}" if hint else message
    if found := re.fullmatch(r"argument (.+): ignored explicit argument (.+)", message):
        return f"{found[1]} takes no value; leave out {found[2]}"
    if found := re.fullmatch(r"(.*: invalid choice: '(.*)') \(choose from (.*)\)", message, re.DOTALL):
        choices = re.findall(r"'([^']*)'", found[3])
        near = _nearest(found[2], choices)
        return f"{found[1]}; " + (f"did you mean {near}" if near else f"give one of {', '.join(choices)}")
    return message


def _unknown_argument(word: str, options: Collection[str]) -> str:
    name = word.partition("=")[0]
    if not name.startswith("-"):
        if "--socket" in options:
            return "give the path of a socket by --socket PATH"
        return "leave it out"
    for foreign in _FOREIGN:
        if name in foreign.names.split() and (not foreign.ours or foreign.ours in options):
            return foreign.text
    near = _nearest(name, [option for option in options if option.startswith("--")]) if name[:2] == "--" else None
    return f"did you mean {near}" if near else ""


def unknown_command(arguments: Sequence[str], commands: Iterable[str]) -> str:
    """The message for a command line that does not begin with a command."""
    if not arguments:
        return "a command is missing; for a shell with a network of its own give `sansnet run`"
    word = arguments[0]
    wrong = f"{word!r} is not a command of sansnet"
    for ours, words in _FOREIGN_COMMANDS.items():
        if word in words.split() and not (word.startswith("-") and arguments[1:]):
            return f"{wrong}; did you mean `sansnet {ours}`"
    if word.startswith("-"):
        return f"{wrong}; options go after the command, as in `sansnet run {word}`"
    if near := _nearest(word, commands):
        return f"{wrong}; did you mean `sansnet {near}`"
    if shutil.which(word):
        return f"{wrong}; to give {word} a network, run `sansnet run -- {word} ...`"
    return wrong


def _nearest(word: str, words: Iterable[str]) -> str | None:
    plain = {one.lstrip("-"): one for one in words}  # all options begin with hyphens, which must not count as similar
    found = difflib.get_close_matches(word.lstrip("-"), plain, 1)
    return plain[found[0]] if found else None
