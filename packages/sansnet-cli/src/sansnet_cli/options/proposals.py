"""Proposals for mistaken command lines: the nearest word, or our option in place of another program's.

Loaded only when there is such a mistake.
"""

from __future__ import annotations

import difflib
import re
import shutil
from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

__all__ = ["explain", "unknown_command"]


class _Foreign(NamedTuple):
    """Options of docker, podman, slirp4netns, pasta, unshare and others, and what does the same here.

    Attributes:
        names: of the options.
        ours: an option that the command must have for this to be said; empty for every command.
        text: what to say.
    """

    names: str
    ours: str
    text: str


_FOREIGN: Final = (
    _Foreign("--publish --port --ports --expose --forward", "-t", "give ports by -t (TCP) or -u (UDP), as -t 8080:80"),
    _Foreign("--publish-all -P", "-T", "give -t auto for all ports that somebody in the guest listens on"),
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
    _Foreign("--workdir --cwd --chdir -w", "--root", "the command begins in your working directory; leave it out"),
    _Foreign("--volume --mount", "--root", "the command sees all files of the host that you see; leave it out"),
    _Foreign("--privileged --cap-add", "--root", "give --root: the command has all capabilities over its network then"),
    _Foreign(
        "--user --uid --map-root-user --map-current-user --fakeroot -r",
        "--root",
        "the command runs as the user that you are, or as root of its network with --root",
    ),
    _Foreign("--add-host", "--host", "give --host NAME=ADDR"),
    _Foreign("--ip --ip6 --cidr", "-a", "give the guest's address by -a ADDR/LEN"),
    _Foreign("--mac --mac-addr --mac-address --macaddress -M", "--ns-mac-addr", "give the guest's by --ns-mac-addr"),
    _Foreign("--debug --trace", "-v", "give -v to hear more, or -p FILE for a capture of all frames"),
    _Foreign("--capture --write", "-p", "give -p FILE for a capture of all frames"),
    _Foreign("--stats", "-c", "give -c PATH, and ask with `sansnet ctl PATH counters`"),
    _Foreign("--log-file --log-size --stderr -l", "", "messages go to stderr; redirect it, as by 2>FILE"),
    _Foreign("--target", "--userns", "give the number of a process alone, as in `sansnet attach 4242`"),
    _Foreign("--pid", "", "the shell knows the process id of what it has begun: $!"),
    _Foreign("--runas", "", "sansnet runs as the user that started it; leave it out"),
    _Foreign("--no-copy-routes --no-copy-addrs", "-a", "give the guest's address by -a and its gateway by -g"),
    _Foreign("--dhcp-dns --dhcp-search", "-D", "DHCP tells of name servers and search domains anyway; leave it out"),
    _Foreign("--no-dhcp-dns --disable-dns --no-dns", "-D", "give -D none"),
    _Foreign("--no-dhcp-search --no-search", "-S", "give -S none"),
    _Foreign("--dns-search", "-S", "give search domains by -S"),
    _Foreign("--no-dhcpv6 --no-dhcp6", "--no-dhcp", "give --no-dhcp, which is about DHCPv6 too"),
    _Foreign("--no-ra", "--no-ndp", "give --no-ndp, which is about router advertisements too"),
    _Foreign("--no-ipv6 --disable-ipv6 --ipv4", "-4", "give -4 for IPv4 alone"),
    _Foreign("--no-ipv4 --disable-ipv4 --ipv6", "-6", "give -6 for IPv6 alone"),
    _Foreign("--enable-ipv6 --configure", "", "that is the default; leave it out"),
    _Foreign(
        "--disable-host-loopback --no-host-loopback",
        "",
        "the host's loopback is closed unless an option opens it; leave it out",
    ),
    _Foreign("--outbound-addr --bind --source", "-o", "give the address to send from by -o"),
    _Foreign("--api-socket --control", "-c", "give -c PATH, and ask with `sansnet ctl PATH`"),
    _Foreign("--userns-path", "--userns", "give --userns PATH"),
    _Foreign(
        "--netns --userns --netns-only --target",
        "--root",
        "`sansnet run` makes a namespace; for one that exists there is `sansnet attach`",
    ),
    _Foreign("--splice-only", "--no-tcp", "give --no-tcp --no-udp --no-icmp, and ports by -t and -T"),
    _Foreign("-V", "", "give --version"),
)

_FOREIGN_COMMANDS: Final = {
    "run": "exec start shell enter spawn unshare",
    "attach": "connect join nsenter container",
    "serve": "server listen daemon vm",
    "ctl PATH list": "status ps list ls ports port flows counters stats control add delete",
    "--help": "usage -? /?",
    "--version": "-V -v",
}
"""Of ours, words that people may try instead."""


def explain(message: str, options: Collection[str]) -> str:
    """What argparse complains of, and what to do about it, as far as that can be told.

    Args:
        message: argparse's.
        options: that the command has.
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
        if "--most" in options and word[0].isdigit():
            return f"give ports by -t, -u, -T or -U, as -t {word}"
        return "leave it out"
    for foreign in _FOREIGN:
        if name in foreign.names.split() and (not foreign.ours or foreign.ours in options):
            return foreign.text
    near = _nearest(name, [option for option in options if option.startswith("--")]) if name[:2] == "--" else None
    return f"did you mean {near}" if near else ""


def unknown_command(arguments: Sequence[str], commands: Iterable[str]) -> str:
    """What to say of a command line that does not begin with one of our commands."""
    if not arguments:
        return "no command is given; a shell with a network of its own is `sansnet run`"
    word = arguments[0]
    what = f"{word!r} is no command of sansnet"
    for ours, words in _FOREIGN_COMMANDS.items():
        if word in words.split() and not (word.startswith("-") and arguments[1:]):
            return f"{what}; did you mean `sansnet {ours}`"
    if word.startswith("-"):
        return f"{what}; options come after the command, as in `sansnet run {word}`"
    if near := _nearest(word, commands):
        return f"{what}; did you mean `sansnet {near}`"
    if shutil.which(word):
        return f"{what}; to give {word} a network: `sansnet run -- {word} ...`"
    return what


def _nearest(word: str, words: Iterable[str]) -> str | None:
    plain = {one.lstrip("-"): one for one in words}  # hyphens, which all options begin with, make no two alike
    found = difflib.get_close_matches(word.lstrip("-"), plain, 1)
    return plain[found[0]] if found else None
