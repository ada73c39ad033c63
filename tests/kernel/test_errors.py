"""The message when sansnet cannot do what was asked: one sentence with the remedy, and nothing is left behind."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from tests.lab import RUN_SANSNET, SERVER4, USER, Lab

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


def test_a_tun_device_that_no_mount_lets_work(lab: Lab) -> None:
    text = sentence(lab, user=USER, before=f"{PRIVATE_TUN}; chmod 666 /dev/net/tun; mount -o remount,nodev /dev/net")
    assert "mount -o remount,dev /dev/net" in text


def test_a_tun_device_that_is_a_plain_file(lab: Lab) -> None:
    text = sentence(lab, before=f"{WITHOUT_TUN}; >/dev/net/tun", status=1)
    assert "mknod /dev/net/tun" in text


@pytest.mark.parametrize("number", [8, 12])
def test_few_descriptors(lab: Lab, number: int) -> None:
    text = sentence(lab, before=f"ulimit -n {number}", status=1)
    assert "ulimit -n" in text


def test_a_user_that_the_user_namespace_does_not_know(lab: Lab) -> None:
    run = shlex.join([*RUN_SANSNET, "--", "true"])
    done = lab.host.run("unshare", "--user", "--", "sh", "-c", run, check=False)
    assert done.returncode == 1
    assert "uid_map" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("most", "options"), [(2, []), (1, ["--root"])])
def test_one_user_namespace_is_not_enough_to_keep_the_user(lab: Lab, most: int, options: list[str]) -> None:
    """The limit is set in a user namespace, so that it is that namespace's alone."""

    def run(most: int, *options: str) -> subprocess.CompletedProcess[str]:
        line = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *RUN_SANSNET, *options, "id", "-u"]
        limit = f"echo {most} >/proc/sys/user/max_user_namespaces; exec {shlex.join(line)}"
        return lab.sansnet([], ["sh", "-c", limit])

    assert run(most, *options).returncode == 0
    done = run(1)
    assert (done.returncode, done.stdout) == (1, "")
    assert "a second user namespace; let it be root with --root (no more namespaces (user)" in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_config_of_a_user_needs_root(lab: Lab) -> None:
    assert "add --root" in sentence(lab, "--no-config", user=USER, status=2)


def test_a_chroot(lab: Lab) -> None:
    # not the root of a mount, as what a chroot is made of usually is none
    script = """
        mkdir -p {root}/in
        mount -t tmpfs none {root}
        mkdir {root}/in
        for name in /*; do
            [ -d "$name" ] && ! [ -L "$name" ] && mkdir "{root}/in$name" && mount --rbind "$name" "{root}/in$name"
            if [ -L "$name" ]; then cp -P "$name" {root}/in/; fi
        done
    """.format(root=lab.directory / "chroot")
    chroot = shlex.join(["chroot", str(lab.directory / "chroot" / "in"), *RUN_SANSNET, "--", "true"])
    done = lab.host.run("unshare", "--mount", "--", "sh", "-ec", f"{script}\n{chroot}", check=False)
    assert done.returncode == 1
    assert "chroot" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_loopback_interface_is_no_template(lab: Lab) -> None:
    assert "loopback" in sentence(lab, "-i", "lo", status=1)


def test_a_capture_to_the_commands_stdout(lab: Lab) -> None:
    assert "-p -" in sentence(lab, "-p", "-", status=2)


@pytest.mark.parametrize(
    "options",
    [
        ["-4", "-a", "fd00::9/64"],
        ["-6", "-o", "192.0.2.2"],
        ["-4", "-g", "fe80::5"],
        ["-a", "198.51.100.1/24"],
        ["-4", "-D", "2001:db8::53"],
        ["--map-host-loopback", "198.51.100.2"],
    ],
    ids=" ".join,
)
def test_options_that_do_not_fit_together(lab: Lab, options: list[str]) -> None:
    sentence(lab, *options, status=2)


@pytest.mark.parametrize("link", [False, True], ids=["missing", "dangling"])
def test_a_host_without_a_resolv_conf(lab: Lab, link: bool, tmp_path: Path) -> None:
    # a copy of /etc, in a mount namespace of the test's own
    copy = shlex.quote(str(tmp_path))
    script = f"umount /etc/resolv.conf; cp -a /etc {copy}; mount --bind {copy}/etc /etc; rm /etc/resolv.conf"
    make = "ln -s /run/nowhere.conf /etc/resolv.conf" if link else ":"
    before = f"{script}; {make}"
    done = lab.sansnet(["-D", SERVER4], ["true"], before=before)
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert f"as root: touch {'/run/nowhere.conf' if link else '/etc/resolv.conf'}\n" in done.stderr


def test_a_shell_that_does_not_exist(lab: Lab) -> None:
    done = lab.host.run("env", "SHELL=/nonexistent", *RUN_SANSNET, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (127, 1)
    assert "/nonexistent: command not found; check the name in $SHELL" in done.stderr


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
        (["-m", "65522"], "65522"),
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
