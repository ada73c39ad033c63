"""From a command line of pasta or passt to the options of `run`, `attach` and `serve`.

If an option with a single value is repeated, the last one counts, as in the originals. Options that the host or the
guest cannot satisfy are ignored (`NetworkOptions.lenient`), because callers pass the same options everywhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from sansnet_cli.compat.log import Level
from sansnet_cli.compat.parsed_options import Misuse, ParsedOptions
from sansnet_cli.options import values
from sansnet_cli.options.limits import size
from sansnet_cli.options.policy import options_of_files
from sansnet_cli.options.ports import PortOptions, read_forwards, refuse_auto
from sansnet_cli.options.record import check_record
from sansnet_cli.options.records import DEFAULT_SANDBOX, AttachOptions, CommandLineError, RunOptions, ServeOptions
from sansnet_cli.options.sandbox import mode
from sansnet_cli.process.daemon import Identity, IdentityError
from sansnet_core.addresses import Endpoint
from sansnet_core.config import GATEWAY_MAC, IPV4_MIN_MTU, IPV6_MIN_MTU
from sansnet_core.errors import ConfigError
from sansnet_core.records import Record
from sansnet_trio.plan.options import DNS_PORT
from sansnet_trio.sandbox.mode import Mode

__all__ = ["Process", "Request", "read"]

T = TypeVar("T")

_LOG_SIZE: Final = 1 << 20
_MIN_LOG: Final = 1 << 12
_MAX_MTU: Final = 65520
"""The limit of the originals, for every link."""
_UNADVERTISED_MTU: Final = 1500
"""The MTU for `--mtu 0`: none is announced, so the guest's interface has Ethernet's default."""

_FAMILIES: Final = {"ipv4-only": 4, "ipv6-only": 6}
_LEVELS: Final = {"quiet": Level.WARNING, "debug": Level.DEBUG, "trace": Level.TRACE}

_PORTS: Final = ("tcp-ports", "udp-ports", "tcp-ns", "udp-ns")
_TO_HOST: Final = ("tcp-ns", "udp-ns")

_POLICY: Final = "SANSNET_POLICY"
_AUDIT: Final = "SANSNET_AUDIT"
_RECORD: Final = "SANSNET_RECORD"
_MEMORY: Final = "SANSNET_MEMORY"
_ALLOW_UNSEALED: Final = "SANSNET_ALLOW_UNSEALED"
_SANDBOX: Final = "SANSNET_SANDBOX"
"""Variables of the environment, for callers that do not pass on the options."""

_CLOSED: Final = dict.fromkeys(("configure", "tcp", "udp", "icmp", "dhcp", "dhcp6", "ndp"), False)
"""The options for `--splice-only`: the guest has an interface, but no traffic on it."""


class Process(Record):
    """The options about the process itself.

    Attributes:
        foreground: whether to stay in the foreground.
        level: the least urgent level of messages that are written.
        pid, log_file: paths of files; None writes none.
        log_size: limit of the log file in bytes.
        identity: the user to become when all files are open; None leaves that to `start`.
    """

    foreground: bool = False
    level: Level = Level.INFO
    pid: str | None = None
    log_file: str | None = None
    log_size: int = _LOG_SIZE
    identity: Identity | None = None


class Request(Record):
    """A parsed command line.

    Attributes:
        process: the options about the process.
        options: the options of the command; `ServeOptions` without a socket mean the first free one.
    """

    process: Process
    options: RunOptions | AttachOptions | ServeOptions


def read(parsed: ParsedOptions) -> Request:
    """Convert the arguments of options, and check them.

    Raises:
        Misuse: an argument is wrong, or options contradict each other.
    """
    return _Reader(parsed).request()


class _Reader:
    def __init__(self, parsed: ParsedOptions) -> None:
        self._parsed = parsed
        self._program = parsed.program
        self._rest = parsed.rest
        self._check()

    def request(self) -> Request:
        """The whole request."""
        return Request(
            process=self._process(),
            options=self._guest() if self._program == "pasta" else self._machine(),
        )

    def _check(self) -> None:
        """Refuse options that contradict each other."""
        for one, other in (
            ("ipv4-only", "ipv6-only"),
            ("splice-only", "no-splice"),
            ("host-lo-to-ns-lo", "no-splice"),
            ("socket", "fd"),
        ):
            if self._has(one) and self._has(other):
                raise Misuse(f"--{one} and --{other} exclude each other; leave out one of them")
        for name in ("no-copy-routes", "no-copy-addrs"):
            if self._has(name) and not self._has("config-net"):
                raise Misuse(f"--{name} needs --config-net")

    # single options

    def _has(self, name: str) -> bool:
        return bool(self._parsed.arguments(name))

    def _all(self, name: str, convert: Callable[[str], T]) -> list[T]:
        return [_converted(f"--{name}", text, convert) for text in self._parsed.arguments(name)]

    def _last(self, name: str, convert: Callable[[str], T]) -> T | None:
        return next(reversed(self._all(name, convert)), None)

    def _file(self, name: str) -> str | None:
        """The absolute path of a file: the process in the background changes its directory."""
        path = self._last(name, values.path)
        return None if path is None else os.path.abspath(path)

    def _listed(self, name: str, convert: Callable[[str], T], *, advertised: bool) -> tuple[T, ...] | None:
        """Values for the guest; None means those of the host, and without `advertised` there are none."""
        if not self._has(name):
            return None if advertised else ()
        return tuple(value for value in self._all(name, values.none_or(convert)) if value is not None)

    # parts of the request

    def _process(self) -> Process:
        spawns = self._program == "pasta" and not self._attaches()
        level = self._parsed.last_of(_LEVELS)
        if level == "debug" and self._has("trace"):
            level = "trace"
        size = self._last("log-size", _count)
        if size is not None and size < _MIN_LOG:
            raise Misuse(f"--log-size {size} is less than {_MIN_LOG}; give more")
        return Process(
            foreground=spawns or self._has("foreground"),
            level=_LEVELS[level] if level else Level.WARNING if spawns else Level.INFO,
            pid=self._last("pid", values.path),
            log_file=self._last("log-file", values.path),
            log_size=size or _LOG_SIZE,
            identity=self._last("runas", Identity),
        )

    def _attaches(self) -> bool:
        return self._has("netns") or (len(self._rest) == 1 and self._rest[0].isdecimal())

    def _guest(self) -> RunOptions | AttachOptions:
        fields = self._network() | {
            "ifname": self._last("ns-ifname", values.ifname),
            "mac": self._last("ns-mac-addr", values.mac),
            "configure": self._has("config-net"),
        }
        if self._has("splice-only"):
            fields |= _CLOSED
        userns = self._last("userns", values.path)
        if self._attaches():
            return AttachOptions(
                **fields,
                **self._namespace(userns),
                ends_with_namespace=not self._has("no-netns-quit"),
            )
        if userns is not None:
            raise Misuse("--userns needs --netns or a process id; leave it out")
        command = tuple(self._rest) or _login_shell()
        return RunOptions(**fields, command=command, host_processes=self._has("host-processes"))

    def _namespace(self, userns: str | None) -> dict[str, Any]:
        """The fields about the namespace to join."""
        netns = self._last("netns", values.path)
        if netns is not None and self._rest:
            raise Misuse(f"--netns and {self._rest[0]!r} both name a namespace to join; leave out one of them")
        if netns is None:
            pid = _converted("PID", self._rest[0], values.pid)
            if userns is None and not self._has("netns-only"):
                return {"pid": pid}
            netns = f"/proc/{pid}/ns/net"
        return {"netns": netns, "userns": userns}

    def _machine(self) -> ServeOptions:
        fd = self._last("fd", values.descriptor)
        return ServeOptions(
            **self._network(),
            allow_unsealed=self._has("allow-unsealed") or os.environ.get(_ALLOW_UNSEALED, "") not in ("", "0"),
            socket=self._file("socket"),
            fd=fd,
            one_off=self._has("one-off") or fd is not None,
            vhost_user=self._has("vhost-user"),
        )

    def _ports(self, *, closed: bool) -> PortOptions:
        """The forwards. By default, pasta opens all ports; with `closed`, those of the host only if they are named."""
        opened = {name: ["auto"] for name in _PORTS if not (closed and name in _TO_HOST)}
        default = opened if self._program == "pasta" else {}
        try:
            forwards = read_forwards(*(self._parsed.arguments(name) or default.get(name, []) for name in _PORTS))
            if self._program == "passt":
                refuse_auto(forwards)
        except ConfigError as error:
            raise Misuse(str(error)) from None
        return PortOptions(
            forwards=forwards,
            freebind=self._has("freebind"),
            splice=not self._has("no-splice"),
            to_loopback=self._has("host-lo-to-ns-lo"),
        )

    def _network(self) -> dict[str, Any]:
        families = frozenset({family for name, family in _FAMILIES.items() if self._has(name)}) or frozenset({4, 6})
        own = {len(address): (address, length) for address, length in self._all("address", values.own)}
        netmask = self._last("netmask", values.netmask)
        if netmask is not None and 4 in own and own[4][1] is not None:
            raise Misuse("--netmask and --address ADDR/LEN both give a mask; leave out one of them")
        mtu = self._mtu(families)
        mapped = self._all("map-host-loopback", values.none_or(values.host))
        policy = self._policy()
        advertised = self._program == "passt" or bool(policy)  # under a policy the guest needs to know our resolver
        control = self._file("conf-path")
        verbose = self._parsed.last_of(_LEVELS) in ("debug", "trace")
        return {
            "families": families,
            "own": tuple(own.values()),
            "netmask": netmask,
            "gateways": _each_family(self._all("gateway", values.host)),
            "gateway_mac": self._last("mac-addr", values.mac) or GATEWAY_MAC,
            "mtu": _UNADVERTISED_MTU if mtu == 0 else mtu,
            "advertise_mtu": mtu != 0,
            "copy_routes": not self._has("no-copy-routes"),
            "copy_addresses": not self._has("no-copy-addrs"),
            "interface": self._last("interface", values.path),
            "outbound": _each_family(self._all("outbound", values.host)),
            "outbound_if4": self._last("outbound-if4", values.ifname),
            "outbound_if6": self._last("outbound-if6", values.ifname),
            "map_host_loopback": _each_family(address for address in mapped if address is not None),
            "map_gateway": not (self._has("no-map-gw") or None in mapped),
            "map_guest_address": _each_family(
                address for address in self._all("map-guest-addr", values.none_or(values.host)) if address is not None
            ),
            "dns_forward": _each_family(self._all("dns-forward", values.host)),
            "dns_host": tuple(
                Endpoint(address, DNS_PORT) for address in _each_family(self._all("dns-host", values.resolver))
            ),
            "dns": self._listed("dns", values.host, advertised=self._advertises("dns", advertised)),
            "search": self._searched(self._advertises("search", advertised)),
            "hostname": self._last("hostname", values.hostname),
            "fqdn": self._last("fqdn", values.domain),
            "pcap": self._file("pcap"),
            "tcp": not self._has("no-tcp"),
            "udp": not self._has("no-udp"),
            "icmp": not self._has("no-icmp"),
            "dhcp": not self._has("no-dhcp"),
            "dhcp6": not self._has("no-dhcpv6"),
            "ndp": not (self._has("no-ndp") or self._has("no-icmp")),
            "advertise_router": not (self._has("no-ra") or self._has("config-net")),
            "lenient": True,
            "trace": self._has("trace"),
            "stats": self._last("stats", _count),
            "ports": self._ports(closed="policy" in policy),
            "control": control,
            "verbose": verbose,
            "notices": verbose or control is not None,
            "record": self._record(),
            "memory": self._memory(),
            "keep_udp_ports": self._has("keep-udp-ports"),
            "sandbox": self._sandbox(),
            **policy,
        }  # fmt: skip

    def _policy(self) -> dict[str, Any]:
        """The fields about what the guest may reach, as far as they are given."""
        policy, audit = self._given("policy", _POLICY), self._given("audit", _AUDIT)
        try:
            return options_of_files(policy, None if audit is None else os.path.abspath(audit))
        except CommandLineError as error:
            raise Misuse(str(error)) from None

    def _sandbox(self) -> Mode:
        """The mode of the sandbox, from the option or the environment."""
        named = self._last("sandbox", mode)
        if named is not None:
            return named
        text = os.environ.get(_SANDBOX)
        return _converted(f"${_SANDBOX}", text, mode) if text else DEFAULT_SANDBOX

    def _record(self) -> str | None:
        """The absolute path of the file for a recording."""
        path = self._given("record", _RECORD)
        if path is None:
            return None
        others = {"--pcap": self._file("pcap"), "--policy": self._given("policy", _POLICY)}
        try:
            check_record(path, {**others, "--audit": self._given("audit", _AUDIT)})
        except CommandLineError as error:
            raise Misuse(str(error)) from None
        return os.path.abspath(path)

    def _memory(self) -> int | None:
        """The memory of the guest's network, from the option or the environment."""
        text = self._given("memory", _MEMORY)
        name = "--memory" if self._has("memory") else _MEMORY
        return None if text is None else _converted(name, text, size)

    def _given(self, name: str, variable: str) -> str | None:
        """The path of an option, or of the environment."""
        return self._last(name, values.path) or os.environ.get(variable) or None

    def _mtu(self, families: frozenset[int]) -> int | None:
        mtu = self._last("mtu", values.mtu)
        minimum = IPV6_MIN_MTU if families == {6} else IPV4_MIN_MTU
        if mtu and not minimum <= mtu <= _MAX_MTU:
            bounds = f"{minimum} and {_MAX_MTU}"
            raise Misuse(f"--mtu {mtu} is not between {bounds}; give another one, or 0 to leave it unchanged")
        return mtu

    def _advertises(self, name: str, default: bool) -> bool:
        return (default or self._has(f"dhcp-{name}")) and not self._has(f"no-dhcp-{name}")

    def _searched(self, advertised: bool) -> tuple[str, ...] | None:
        """The search domains. One argument may have several of them, as QEMU passes them."""
        split = [domain for text in self._parsed.arguments("search") for domain in text.split()]
        if not split:
            return None if advertised else ()
        return tuple(_converted("--search", domain, values.domain) for domain in split if domain != "none")


def _login_shell() -> tuple[str, ...]:
    return os.environ.get("SHELL") or "/bin/sh", "-l"


def _each_family(addresses: Iterable[bytes]) -> tuple[bytes, ...]:
    """The last address of each family."""
    return tuple({len(address): address for address in addresses}.values())


def _converted(name: str, text: str, convert: Callable[[str], T]) -> T:
    try:
        return convert(text)
    except (values.BadValue, IdentityError) as problem:
        raise Misuse(f"{name} {problem}") from None


def _count(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,8}", text, re.ASCII):
        raise values.BadValue(f"{text!r} is not a number above 0")
    return int(text)
