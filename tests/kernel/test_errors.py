"""What a person reads when sansnet cannot do what was asked: one sentence, with the remedy, and nothing left behind."""

from __future__ import annotations

import pytest

from tests.lab import RUN_SANSNET, USER, Lab

WITHOUT_TUN = "mount -t tmpfs none /dev/net"
PRIVATE_TUN = "mount -t tmpfs none /dev/net; mknod -m 600 /dev/net/tun c 10 200"


def sentence(lab: Lab, *options: str, user: int | None = None, before: str = "", status: int | None = None) -> str:
    """The one line on stderr of a run that must fail before its command begins."""
    done = lab.sansnet(list(options), ["echo", "began"], user=user, before=before, timeout=20)
    assert done.returncode not in (0, 126, 127)
    if status is not None:
        assert done.returncode == status
    assert done.stdout == ""
    assert done.stderr.startswith("sansnet: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
def test_a_missing_tun_device(lab: Lab, user: int | None) -> None:
    text = sentence(lab, user=user, before=WITHOUT_TUN, status=1)
    assert "/dev/net/tun" in text
    assert "modprobe tun" in text


def test_a_tun_device_that_the_user_may_not_open(lab: Lab) -> None:
    text = sentence(lab, user=USER, before=PRIVATE_TUN, status=1)
    assert "/dev/net/tun" in text
    assert "ermission" in text or "chmod" in text


@pytest.mark.parametrize("user", [None, USER], ids=["root", "user"])
def test_disabled_user_namespaces(lab: Lab, user: int | None) -> None:
    # In a user namespace of the test's own, so that the machine's limit stays what it is.
    drop = [] if user is None else ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--"]
    limit = 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$@"'
    command = [*RUN_SANSNET, "--", "echo", "began"]
    unshare = ["unshare", "--user", "--map-current-user", "--keep-caps"]
    done = lab.host.run(*drop, *unshare, "--", "sh", "-ec", limit, "-", *command, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("sansnet: ")
    assert "max_user_namespaces" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("option", ["-i", "--interface"])
def test_an_unknown_interface(lab: Lab, option: str) -> None:
    assert "nosuch0" in sentence(lab, option, "nosuch0")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["-a", "10.0.0.300"], "10.0.0.300"),
        (["-a", "10.0.0.1/33"], "10.0.0.1/33"),
        (["-a", "nonsense"], "nonsense"),
        (["-a", "127.0.0.1"], "127.0.0.1"),
        (["-a", "0.0.0.0"], "0.0.0.0"),
        (["-g", "10.0.0"], "10.0.0"),
        (["-g", "127.0.0.1"], "127.0.0.1"),
        (["-n", "255.0.255.0"], "255.0.255.0"),
        (["-n", "33"], "33"),
        (["-a", "10.0.0.1/24", "-n", "24"], "-n"),
        (["-m", "65521"], "65521"),
        (["-m", "0"], "0"),
        (["-m", "many"], "many"),
        (["-D", "10.0.0.300"], "10.0.0.300"),
        (["-4", "-6"], "-6"),
        (["--map-host-loopback", "nonsense"], "nonsense"),
        (["--dns-forward", "nonsense"], "nonsense"),
        (["-o", "nonsense"], "nonsense"),
        (["--ns-mac-addr", "zz:00:00:00:00:00"], "zz:00:00:00:00:00"),
        (["--ns-mac-addr", "01:00:00:00:00:00"], "01:00:00:00:00:00"),
        (["-I", "a-name-that-is-too-long"], "a-name-that-is-too-long"),
        (["-I", "with/slash"], "with/slash"),
        (["--no-such-option"], "--no-such-option"),
        (["-p", "/no/such/directory/file.pcap"], "/no/such/directory/file.pcap"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_bad_option(lab: Lab, options: list[str], word: str) -> None:
    assert word in sentence(lab, *options)


def test_a_capture_file_that_the_user_may_not_write(lab: Lab) -> None:
    assert "/etc/sansnet.pcap" in sentence(lab, "-p", "/etc/sansnet.pcap", user=USER)


def test_a_host_without_ping_sockets_says_so_once_and_works_otherwise(lab: Lab) -> None:
    before = "echo 1 0 >/proc/sys/net/ipv4/ping_group_range"
    try:
        lab.host.shell(before)
        done = lab.sansnet([], ["sh", "-c", "ping -c1 -W1 203.0.113.10; ping -c1 -W1 203.0.113.10; true"], user=USER)
    finally:
        lab.host.shell("echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range")
    assert done.returncode == 0
    assert "ping_group_range" in done.stderr
    assert done.stderr.count("\n") == 1
