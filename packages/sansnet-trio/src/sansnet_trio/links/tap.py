"""A tap interface of the kernel (Documentation/networking/tuntap.rst), with its offloads.

With IFF_VNET_HDR each frame begins with a `virtio_net_hdr`. So the guest's kernel can send TCP and UDP unsegmented, up
to 64 KiB in one frame, and without checksums. That matters because most of our cost is per frame, not per byte.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from struct import Struct
from typing import Final

from sansnet_core import LinkConfig
from sansnet_core.addresses import AnyMac, packed_mac
from sansnet_core.errors import expect
from sansnet_trio.links import MtuLimits
from sansnet_trio.links.tap_frames import TapFrames
from sansnet_trio.linux.descriptors import Uncopyable

__all__ = ["MAX_FRAME_SIZE", "MTU", "Tap", "bring_up", "open_tap"]

MAX_FRAME_SIZE: Final = 65535 + 14
"""Most bytes of one frame, without the `virtio_net_hdr`: the largest IP packet and its Ethernet header."""

MTU: Final = MtuLimits(default=65520, largest=65521)
"""The limit leaves room for the Ethernet header (tun_net_initialize). The default is a multiple of 4."""

VNET_HEADER_SIZE: Final = 12

# linux/if_tun.h
_TUNSETIFF: Final = 0x400454CA
_TUNSETPERSIST: Final = 0x400454CB
_TUNSETOFFLOAD: Final = 0x400454D0
_TUNSETVNETHDRSZ: Final = 0x400454D8
_TUNSETVNETLE: Final = 0x400454DC
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
_TUN_F_CSUM: Final = 0x01
_TUN_F_TSO4: Final = 0x02
_TUN_F_TSO6: Final = 0x04
_TUN_F_USO4: Final = 0x20
_TUN_F_USO6: Final = 0x40

# linux/sockios.h, linux/if.h, linux/if_arp.h
_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 0x0001
_SIOCSIFMTU: Final = 0x8922
_SIOCSIFHWADDR: Final = 0x8924
_ARPHRD_ETHER: Final = 1

# struct ifreq: the name, then a union of 24 bytes
_IFREQ_FLAGS: Final = Struct("=16sH22x")
_IFREQ_INT: Final = Struct("=16si20x")
_IFREQ_ADDRESS: Final = Struct("=16sH6s16x")
_INT: Final = Struct("=i")


def open_tap(name: str, *, mtu: int, mac: AnyMac | None = None) -> tuple[int, LinkConfig]:
    """Create a tap in the calling thread's network namespace, or attach to a persistent one. The interface stays down.

    It only makes system calls, so a forked child that has entered the guest's namespace may call it.

    Args:
        name: name of the interface, at most 15 bytes.
        mtu: MTU of the interface, in bytes.
        mac: the guest's Ethernet address, in any form; None leaves the choice to the kernel.

    Returns:
        A non-blocking descriptor, closed on exec, and the abilities of the tap; both are for `Tap`.

    Raises:
        ConfigError: the Ethernet address is none.
        UsageError: the name is not text, or the MTU not an integer.
        OSError: `/dev/net/tun` is missing (ENOENT) or may not be opened (EACCES), or the interface may not be created
            (EPERM), is in use (EBUSY) or rejects the MTU (EINVAL).
    """
    expect("name", name, str, "the name of an interface, such as 'tap0'")
    expect("mtu", mtu, int, "a number of bytes, such as 1500")
    hardware = None if mac is None else packed_mac(mac)
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        config = _attach(fd, name.encode(), mtu)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            if hardware is not None:
                fcntl.ioctl(control, _SIOCSIFHWADDR, _IFREQ_ADDRESS.pack(name.encode(), _ARPHRD_ETHER, hardware))
            fcntl.ioctl(control, _SIOCSIFMTU, _IFREQ_INT.pack(name.encode(), mtu))
    except BaseException:
        os.close(fd)
        raise
    return fd, config


def bring_up(name: str) -> None:
    """Bring up an interface of the calling thread's network namespace.

    Raises:
        OSError: there is no such interface (ENODEV), or this is not permitted (EPERM).
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        answer = fcntl.ioctl(control, _SIOCGIFFLAGS, _IFREQ_FLAGS.pack(name.encode(), 0))
        _, flags = _IFREQ_FLAGS.unpack(answer)
        fcntl.ioctl(control, _SIOCSIFFLAGS, _IFREQ_FLAGS.pack(name.encode(), flags | _IFF_UP))


def _attach(fd: int, name: bytes, mtu: int) -> LinkConfig:
    """Attach with the best mode that the kernel supports."""
    try:
        fcntl.ioctl(fd, _TUNSETIFF, _IFREQ_FLAGS.pack(name, _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        fcntl.ioctl(fd, _TUNSETIFF, _IFREQ_FLAGS.pack(name, _IFF_TAP | _IFF_NO_PI))
        return LinkConfig(mtu=mtu, max_frame_size=MAX_FRAME_SIZE)
    fcntl.ioctl(fd, _TUNSETVNETHDRSZ, _INT.pack(VNET_HEADER_SIZE))
    fcntl.ioctl(fd, _TUNSETVNETLE, _INT.pack(1))
    tso = _TUN_F_CSUM | _TUN_F_TSO4 | _TUN_F_TSO6
    uso = tso | _TUN_F_USO4 | _TUN_F_USO6  # since Linux 6.2
    accepted = next((flags for flags in (uso, tso, _TUN_F_CSUM, 0) if _offload(fd, flags)), 0)
    return LinkConfig(
        mtu=mtu,
        max_frame_size=MAX_FRAME_SIZE,
        vnet_header=True,
        checksum_offload=bool(accepted),
        tso4=accepted >= tso,
        tso6=accepted >= tso,
        uso=accepted == uso,
    )


def _offload(fd: int, flags: int) -> bool:
    """Allow these offloads for frames from the guest's kernel (TUNSETOFFLOAD); whether this kernel supports them."""
    try:
        fcntl.ioctl(fd, _TUNSETOFFLOAD, flags)
    except OSError:
        return False
    return True


class Tap(TapFrames, Uncopyable):
    """A link over an open tap.

    Args:
        fd: a descriptor from `open_tap`, possibly called in another process; `close` closes it.
        config: the abilities of the tap, from the same call.
        left_behind: `close` leaves the interface in place until its network namespace ends. Removing an interface
            takes the kernel 25 ms, which is a waste if the namespace ends next.
    """

    def __init__(self, fd: int, config: LinkConfig, *, left_behind: bool = False) -> None:
        expect("fd", fd, int, "a descriptor; give Tap(*open_tap(name, mtu=1500))")
        expect("config", config, LinkConfig, "a LinkConfig; give the second result of open_tap")
        super().__init__(fd, MAX_FRAME_SIZE + (VNET_HEADER_SIZE if config.vnet_header else 0))
        self.config = config
        self._left_behind = left_behind

    def close(self) -> None:
        """See `Link`."""
        if self.fd >= 0:
            if self._left_behind:
                with contextlib.suppress(OSError):  # the interface is gone
                    fcntl.ioctl(self.fd, _TUNSETPERSIST, 1)
            os.close(self.fd)
            self.fd = -1
