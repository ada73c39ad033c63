"""A wrong argument is refused at once, in one sentence that says what to give."""

from __future__ import annotations

import copy
import io
import os
import pickle
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final

import pytest
import trio

import sansnet_trio
from sansnet_core import Ipv4Config, LinkConfig, Network, NetworkConfig, SansnetError, UsageError
from sansnet_core.records import Record, replace
from sansnet_trio import (
    AttachedGuest,
    AuditFile,
    AuditLog,
    CapturedLink,
    CaptureFile,
    CommandGuest,
    ControlSocket,
    Driver,
    ExistingNamespace,
    Forwards,
    GuestPlan,
    HostInfo,
    HostWatch,
    MachineListener,
    NamespaceOptions,
    NetworkOptions,
    RecordingFile,
    Services,
    Tap,
    UnixStream,
    VhostUserLink,
    attach,
    machine_arguments,
    make_plan,
    make_setup,
    open_guest,
    open_machine,
    open_network,
    open_tap,
    parse_proxy,
    read_host,
    read_host_for,
    run_guest,
)

WRONG: Any = None
CONFIG: Final = NetworkConfig(ipv4=Ipv4Config(address="10.0.2.15/24", gateway="10.0.2.2"))


def _prepare() -> tuple[GuestPlan, None]:
    return GuestPlan(), None


def _network() -> Network:
    return Network(CONFIG, now=0.0, secret=bytes(16))


def _link() -> UnixStream:
    ours, theirs = socket.socketpair()
    theirs.close()
    return UnixStream(ours)


def _driver(network: Any, link: Any) -> Driver:
    try:
        return Driver(network, link)
    finally:
        for each in (network, link):
            if isinstance(each, UnixStream):
                each.close()


CALLS: Final[dict[str, list[tuple[Callable[[], object], str]]]] = {
    "AttachedGuest": [
        (lambda: AttachedGuest.fork(WRONG, _prepare), r"namespace: None is not an ExistingNamespace, such as")
    ],
    "AuditFile": [
        (lambda: AuditFile(WRONG), r"file: None is not a binary file; give open\(path, 'ab', buffering=0\)"),
        (lambda: AuditFile(io.BytesIO(), max_size=0), "max_size: 0 is not a number of bytes; give 1 or more, or None"),
    ],
    "AuditLog": [(lambda: AuditLog(WRONG), r"file: None is not an AuditFile; give AuditFile\(open\(")],
    "CaptureFile": [
        (lambda: CaptureFile(WRONG), r"file: None is not a binary file; give open\(path, 'wb', buffering=0\)"),
        (lambda: CaptureFile("/tmp/capture.pcap"), "file: '/tmp/capture.pcap' is not a binary file"),  # type: ignore[arg-type]
        (lambda: CaptureFile(io.StringIO()), "is not a binary file"),  # type: ignore[arg-type]
    ],
    "CapturedLink": [(lambda: CapturedLink(WRONG, WRONG), "link: None is not a link; give a Tap")],
    "CommandGuest": [(lambda: CommandGuest.fork("true", _prepare), "command is a list of words; give")],
    "ControlSocket": [
        (lambda: ControlSocket(WRONG, lambda request: {}), "path: None is not a path"),
        (lambda: ControlSocket("/tmp/never", WRONG), "answer: None is not a function; give ControlCommands"),
    ],
    "Driver": [
        (lambda: _driver(WRONG, _link()), r"network: None is not a network; give a sansnet_core\.Network"),
        (lambda: _driver(_network(), WRONG), "link: None is not a link; give a Tap"),
        (lambda: _driver(_link(), _network()), "network: .* is not a network"),
    ],
    "ExistingNamespace": [
        (lambda: ExistingNamespace(WRONG), "network: None is not the path of a network namespace"),
        (lambda: ExistingNamespace.of_process("1"), "pid: '1' is not the id of a process"),  # type: ignore[arg-type]
        (lambda: ExistingNamespace.named(WRONG), "name: None is not the name of a network namespace"),
    ],
    "Forwards": [
        (lambda: Forwards("8080"), r"forwards: '8' is not a ForwardRule; give parse\('8080:80', TCP\)"),  # type: ignore[arg-type]
        (lambda: Forwards(WRONG), "forwards: None is not a sequence of rules"),
        (lambda: Forwards(families=(5,)), r"families: \(5,\) are not families; give \(4, 6\)"),
    ],
    "HostWatch": [(lambda: HostWatch("/etc/resolv.conf"), r"is one path; give \('/etc/resolv.conf',\)")],
    "MachineListener": [(lambda: MachineListener(WRONG), "where: None is not a path or a listening socket")],
    "RecordingFile": [
        (lambda: RecordingFile(WRONG), r"path: None is not the path of a file"),
        (lambda: RecordingFile("/tmp/never", size=1), "size: 1 is not a number of bytes; give 1048576 or more"),
    ],
    "Services": [
        (lambda: Services().listen_tcp(70000), "port: 70000 is not a port; give 1 to 65535, or None"),
        (lambda: Services().listen_tcp(80, host="nowhere"), "host: 'nowhere' is not a network"),
        (lambda: Services().open_datagrams(53, host=b"abc"), "host: b'abc' is not a network"),
    ],
    "Tap": [
        (lambda: Tap(WRONG, LinkConfig()), r"fd: None is not a descriptor; give Tap\(\*open_tap"),
        (lambda: Tap(0, WRONG), "config: None is not a LinkConfig"),
    ],
    "UnixStream": [(lambda: UnixStream("/run/socket"), "connection: '/run/socket' is not a connected UNIX stream")],  # type: ignore[arg-type]
    "VhostUserLink": [(lambda: VhostUserLink(WRONG), "connection: None is not a connected UNIX stream")],
    "machine_arguments": [
        (
            lambda: machine_arguments("-m 512", (9, 2), "/run/s", vhost_user=False, mtu=None, has_kvm=True),
            r"arguments: '-m 512' is one string; give a sequence, such as \['-m', '512'\]",
        )
    ],
    "make_plan": [
        (lambda: make_plan(NetworkOptions(), HostInfo()), "options: .* is not NamespaceOptions"),  # type: ignore[arg-type]
        (lambda: make_plan(NamespaceOptions(), WRONG), r"host: None is not a HostInfo; give read_host_for\(options\)"),
    ],
    "make_setup": [
        (lambda: make_setup(WRONG, HostInfo()), "options: None is not NetworkOptions"),
        (lambda: make_setup(NetworkOptions(), WRONG), "host: None is not a HostInfo"),
    ],
    "open_tap": [
        (lambda: open_tap(WRONG, mtu=1500), "name: None is not the name of an interface, such as 'tap0'"),
        (lambda: open_tap("t", mtu="1500"), "mtu: '1500' is not a number of bytes"),  # type: ignore[arg-type]
        (lambda: open_tap("t", mtu=1500, mac="02:00"), "'02:00' is not an Ethernet address; give text such as"),
    ],
    "parse_proxy": [(lambda: parse_proxy("10.0.0.1:1080"), "'10.0.0.1:1080' is not a proxy; give socks5://HOST:PORT")],
    "read_host": [(lambda: read_host(3), "interface: 3 is not the name of an interface, such as 'eth0'")],  # type: ignore[arg-type]
    "read_host_for": [(lambda: read_host_for(WRONG), "options: None is not NetworkOptions")],
}

ASYNC: Final[dict[str, list[tuple[Callable[[], AbstractAsyncContextManager[object]], str]]]] = {
    "open_network": [
        (lambda: open_network(WRONG, CONFIG), "link: None is not a link"),
        (lambda: open_network(_network(), CONFIG), "link: .* is not a link"),  # type: ignore[arg-type]
    ],
    "open_guest": [(lambda: open_guest("true"), "'true'")],
    "open_machine": [(lambda: open_machine("qemu-system-x86_64"), "'qemu-system-x86_64'")],
    "attach": [(lambda: attach(WRONG), "target: None is not the id of a process, or the name")],
}

MADE_BY_OTHERS: Final = {
    "Guest",
    "GuestDatagramChannel",
    "GuestDatagrams",
    "GuestListener",
    "GuestNetwork",
    "GuestProcess",
    "GuestStream",
    "Machine",
    "PortForward",
    "Subscription",
}
"""Classes whose objects come from a function or method of another."""

PLAIN: Final = {
    "Accounts",
    "ControlCommands",
    "DriverStatistics",
    "FailureReports",
    "Learner",
    "Lost",
    "MtuLimits",
    "NewFlow",
    "PendingFlow",
    "hold_flow",
    "ReadyGuest",
    "RememberedNameServers",
    "Summary",
    "follow",
    "read_private",
}
PLAIN_TUPLES: Final = {"InterfaceAddress", "ListenAddress", "ObservedLink", "Peer", "Serve"}
"""Values; tests/test_fields.py has those with addresses. `ObservedLink` is abstract."""


def test_every_public_callable_has_its_case() -> None:
    """Or it is a record, an exception, a protocol or a type of values."""
    without = set()
    for name in sansnet_trio.__all__:
        value = getattr(sansnet_trio, name)
        is_class = isinstance(value, type)
        if is_class and (issubclass(value, Record | Exception) or getattr(value, "_is_protocol", False)):
            continue
        if is_class or hasattr(value, "__code__"):
            without.add(name)
    without -= {*CALLS, *ASYNC, "run_guest", *MADE_BY_OTHERS, *PLAIN, *PLAIN_TUPLES}
    assert without == set()


@pytest.mark.parametrize(("call", "message"), [case for cases in CALLS.values() for case in cases])
def test_a_wrong_argument_is_refused_in_one_sentence(call: Callable[[], object], message: str) -> None:
    with pytest.raises(SansnetError, match=message) as refused:
        call()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("call", "message"), [case for cases in ASYNC.values() for case in cases])
def test_a_context_manager_refuses_it_on_entry(
    call: Callable[[], AbstractAsyncContextManager[object]], message: str
) -> None:
    async def main() -> None:
        async with call():
            raise AssertionError("the block began")

    with pytest.raises(SansnetError, match=message):
        trio.run(main)


def test_run_guest_refuses_one_string() -> None:
    with pytest.raises(SansnetError, match="'true'"):
        trio.run(run_guest, "true")


def test_a_link_is_closed_if_the_configuration_is_none() -> None:
    async def main() -> None:
        async with open_network(link, WRONG):
            raise AssertionError("the block began")

    link = _link()
    with pytest.raises(UsageError, match="config: None is not a NetworkConfig"):
        trio.run(main)
    assert link.fileno() == -1


def test_replace_refuses_what_is_no_record() -> None:
    with pytest.raises(UsageError, match="record: None is not a record, such as a NetworkConfig"):
        replace(WRONG)


# copies


def test_objects_that_belong_to_this_process_refuse_to_be_copied(tmp_path: Path) -> None:
    trio.run(_copy_owners, tmp_path)


async def _copy_owners(tmp_path: Path) -> None:
    here, there = socket.socketpair()
    network, services = _network(), Services()
    with here, there, Forwards() as forwards, HostWatch(()) as watch, open(tmp_path / "c", "wb", 0) as file:
        link = UnixStream(here)
        read, write = os.pipe()
        machines = MachineListener(str(tmp_path / "machines"))
        control = ControlSocket(str(tmp_path / "control"), lambda request: {})
        driver = Driver(network, link)
        capture = CaptureFile(file)
        recording = RecordingFile(tmp_path / "recording")
        owners = [
            link, driver, forwards, watch, services, machines, control, capture, recording,
            Tap(read, LinkConfig()), CapturedLink(link, capture), services.listen_tcp(80), services.open_datagrams(53),
        ]  # fmt: skip
        for owner in owners:
            for way in (copy.copy, copy.deepcopy, pickle.dumps):
                with pytest.raises(
                    TypeError, match=f"a {type(owner).__name__} cannot be copied or pickled; it belongs"
                ):
                    way(owner)
        os.close(read)
        os.close(write)
        machines.close()
        control.close()
        recording.close()
        await trio.lowlevel.checkpoint()


def test_every_owner_of_descriptors_refuses() -> None:
    values = (Record, Exception)
    for name in sansnet_trio.__all__:
        value = getattr(sansnet_trio, name)
        if not isinstance(value, type) or issubclass(value, values) or getattr(value, "_is_protocol", False):
            continue
        if name not in PLAIN | {"AuditLog", "InterfaceAddress", "ListenAddress", "Peer", "Serve"}:
            assert "Uncopyable" in {base.__name__ for base in value.__mro__}, name
