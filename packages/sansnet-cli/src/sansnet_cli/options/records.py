"""The options of `sansnet run`, `attach`, `serve` and `qemu`, as records. The `parser` of each command makes them."""

from __future__ import annotations

from typing import Final, TypeAlias

from sansnet_cli.options.ports import PortOptions
from sansnet_core.records import Record
from sansnet_trio.plan.options import NamespaceOptions, NetworkOptions, OptionsError
from sansnet_trio.sandbox.mode import Mode

__all__ = [
    "DEFAULT_SANDBOX",
    "AttachOptions",
    "CommandLineError",
    "CommandOptions",
    "GuestOptions",
    "MachineOptions",
    "QemuOptions",
    "RunOptions",
    "ServeOptions",
]

DEFAULT_SANDBOX: Final = Mode.ENFORCE


class CommandLineError(OptionsError):
    """The command line is wrong. The message is one sentence that names the option."""


_OPTIONS: Final = {
    "own": "-a",
    "gateways": "-g",
    "outbound": "-o",
    "outbound_if4": "--outbound-if4",
    "outbound_if6": "--outbound-if6",
    "map_host_loopback": "--map-host-loopback",
    "map_guest_address": "--map-guest-addr",
    "dns": "-D",
    "dns_forward": "--dns-forward",
    "dns_host": "--dns-host",
    "hosts": "--host",
}
"""Field of `NetworkOptions` -> option."""


def _word(self: NetworkOptions, field: str, argument: object = None) -> str:
    """See `NetworkOptions.word`."""
    if field == "families":
        return f"-{argument}"
    return _OPTIONS[field] if argument is None else f"{_OPTIONS[field]} {argument}"


class CommandOptions(Record, frozen=False):
    """The options that all commands share and that are not about the guest's network.

    Attributes:
        pcap: path of the capture file.
        control: path of the control socket.
        verbose: whether to print the configuration, and at the end the counters.
        ports: the forwarded ports.
        trace: whether to log one line per packet.
        stats: seconds between tables of counters; None prints no table.
        audit: path of the file for the decisions about flows and names.
        audit_size: bytes that this file may have; None is the default of `AuditFile`.
        learn: path of the file for a policy that allows what the guest used.
        record: path of the file for a recording.
        record_size: bytes that the recording may have; None is the default of `RecordingFile`.
        sandbox: the mode of the sandbox of all processes of the command.
    """

    pcap: str | None = None
    control: str | None = None
    verbose: bool = False
    ports: PortOptions = PortOptions()
    trace: bool = False
    stats: float | None = None
    audit: str | None = None
    audit_size: int | None = None
    learn: str | None = None
    record: str | None = None
    record_size: int | None = None
    sandbox: Mode = DEFAULT_SANDBOX


class RunOptions(NamespaceOptions, CommandOptions, frozen=False):
    """The options of `sansnet run`.

    Attributes:
        command: the program and its arguments; never empty.
        root: whether the command of an ordinary user is root in the guest's user namespace.
        host_processes: whether the command shares the host's PID and IPC namespaces.
    """

    command: tuple[str, ...]
    root: bool = False
    host_processes: bool = False
    word = _word


class AttachOptions(NamespaceOptions, CommandOptions, frozen=False):
    """The options of `sansnet attach`: the namespaces of a process, or a network namespace with a name or path.

    Attributes:
        pid: id of the process; None if `netns` is set.
        netns: name or path of the network namespace; None if `pid` is set.
        userns: path of the user namespace to enter before `netns`; None stays in sansnet's own.
        ends_with_namespace: whether to end when the namespace is gone.
        background: whether to return when the guest is attached, and go on in the background.
        pid_file: path of a file for the process id.
    """

    word = _word
    pid: int | None = None
    netns: str | None = None
    userns: str | None = None
    ends_with_namespace: bool = True
    background: bool = False
    pid_file: str | None = None


class MachineOptions(NetworkOptions, CommandOptions, frozen=False):
    """The options of a virtual machine's network.

    Attributes:
        vhost_user: whether the link is vhost-user; otherwise it has the protocol of `-netdev stream`.
        allow_unsealed: whether vhost-user accepts memory whose file could shrink.
    """

    vhost_user: bool = False
    allow_unsealed: bool = False
    word = _word


class ServeOptions(MachineOptions, frozen=False):
    """The options of `sansnet serve`: the path of a socket, or an open socket.

    Attributes:
        socket: path of the socket to which machines connect.
        fd: descriptor of an inherited socket that is connected or listens; None if `socket` is set.
        one_off: whether to end when the first machine disconnects, as with a connected socket.
        background: whether to return when machines can connect, and serve them in the background.
        pid_file: path of a file for the process id.
    """

    socket: str | None = None
    fd: int | None = None
    one_off: bool = False
    background: bool = False
    pid_file: str | None = None


class QemuOptions(MachineOptions, frozen=False):
    """The options of `sansnet qemu`.

    Attributes:
        program: name or path of QEMU; None means the QEMU for this processor.
        arguments: QEMU's arguments.
    """

    program: str | None = None
    arguments: tuple[str, ...] = ()


GuestOptions: TypeAlias = RunOptions | AttachOptions | MachineOptions
