"""Real programs under a policy by name: they reach the hosts that it allows, and fail on others as on any network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

import pytest
import trustme

from tests.lab import eventually
from tests.lab.internet import ADDRESSES, Internet, internet
from tests.lab.namespaces import running
from tests.lab.repositories import MESSAGE, make_all

SERVER4, SERVER6 = ADDRESSES["allowed"]
NAMES: Final = ("packages", "registry", "git", "deb", "www", "elsewhere")
ZONE: Final = {
    (f"{name}.example", kind): [address] for name in NAMES for kind, address in (("A", SERVER4), ("AAAA", SERVER6))
}
PYTHON: Final = getattr(sys, "_base_executable", sys.executable)
"""A Python with pip: the environment of the tests has none."""


class World(NamedTuple):
    """The servers.

    Attributes:
        internet: where they are.
        authority: path of the certificate of their authority.
        directory: for the files of a test.
    """

    internet: Internet
    authority: str
    directory: Path

    def run(
        self, allowed: list[str], command: list[str], *, status: int | None = 0, timeout: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as a guest that reaches these names and ports; its status must be this one, if it is given."""
        options = [word for place in allowed for word in ("--allow", place)]
        done = self.internet.lab.sansnet(options, command, timeout=timeout)
        if status is not None:
            assert done.returncode == status, done.stdout + done.stderr
        return done


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with internet(ZONE, tls=False) as made, ExitStack() as stack:
        # Below the laboratory's directory, which everyone can read: apt reads as a user of its own
        directory = made.lab.directory / "programs"
        directory.mkdir()
        make_all(directory / "root")
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(directory / "authority.pem"))
        server = directory / "server.pem"
        authority.issue_cert(*(f"{name}.example" for name in NAMES)).private_key_and_cert_chain_pem.write_to_path(
            str(server)
        )
        script = str(Path(__file__).parents[1] / "lab" / "https_server.py")
        for address in (SERVER4,):
            command = made.lab.upstream.command(sys.executable, script, address, str(server), str(directory / "root"))
            process = stack.enter_context(running(command, stdout=subprocess.PIPE))
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield World(made, str(directory / "authority.pem"), directory)


def test_curl(world: World) -> None:
    command = ["curl", "-sS", "--max-time", "20", "--cacert", world.authority]
    done = world.run(["www.example:443"], [*command, "https://www.example/script.js"])
    assert MESSAGE in done.stdout
    refused = world.run(["www.example:443"], [*command, "https://git.example/"], status=6)
    assert "Could not resolve host: git.example" in refused.stderr


def test_git_over_https(world: World, tmp_path: Path) -> None:
    clone = ["env", f"GIT_SSL_CAINFO={world.authority}", "git", "clone", "-q", "https://git.example/sample.git"]
    world.run(["git.example:443"], [*clone, str(tmp_path / "clone")])
    assert (tmp_path / "clone" / "README").read_text() == MESSAGE
    world.run(["www.example:443"], [*clone, str(tmp_path / "none")], status=128)


def test_git_over_ssh(world: World, tmp_path: Path) -> None:
    """A name rule at a port without a check."""
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    (tmp_path / "authorized").write_text((tmp_path / "user.pub").read_text())
    options = {
        "HostKey": tmp_path / "host",
        "AuthorizedKeysFile": tmp_path / "authorized",
        "StrictModes": "no",
        "UsePAM": "no",
        "PidFile": "none",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    sshd = shutil.which("sshd", path=f"/usr/sbin:{os.environ['PATH']}")
    assert sshd is not None
    Path("/run/sshd").mkdir(exist_ok=True)
    listen = ["-D", "-e", "-f", "/dev/null", "-p", "2222", "-o", f"ListenAddress={SERVER4}"]
    with running(world.internet.lab.upstream.command(sshd, *listen, *words), stderr=subprocess.PIPE) as server:
        assert server.stderr is not None
        assert "listening" in server.stderr.readline()
        ssh = f"ssh -i {tmp_path}/user -p 2222 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
        path = world.directory / "root" / "git.example" / "sample.git"
        clone = ["env", f"GIT_SSH_COMMAND={ssh}", "git", "clone", "-q", f"root@git.example:{path}"]
        world.run(["git.example:2222"], [*clone, str(tmp_path / "clone")])
        assert (tmp_path / "clone" / "README").read_text() == MESSAGE
        world.run(["git.example:443"], [*clone, str(tmp_path / "none")], status=128)


def test_pip(world: World, tmp_path: Path) -> None:
    unset = ["env", "-u", "REQUESTS_CA_BUNDLE", "-u", "CURL_CA_BUNDLE"]  # stronger than --cert
    install = [
        *unset,
        PYTHON,
        "-m",
        "pip",
        "--isolated",
        "install",
        "--disable-pip-version-check",
        "--no-cache-dir",
        "--retries",
        "0",
    ]
    install += ["--cert", world.authority, "--index-url", "https://packages.example/simple", "--target"]
    world.run(["packages.example:443"], [*install, str(tmp_path / "one"), "sample"])
    done = subprocess.run([PYTHON, tmp_path / "one" / "sample.py"], check=True, text=True, capture_output=True)
    assert done.stdout.strip() == MESSAGE
    world.run(["www.example:443"], [*install, str(tmp_path / "two"), "sample"], status=1)


def test_npm(world: World, tmp_path: Path) -> None:
    install = [
        "npm",
        "install",
        "--no-audit",
        "--no-fund",
        "--fetch-retries=0",
        "--registry",
        "https://registry.example/",
    ]
    install += ["--cafile", world.authority, "--cache", str(tmp_path / "cache"), "--prefix", str(tmp_path), "sample"]
    world.run(["registry.example:443"], install)
    assert MESSAGE in (tmp_path / "node_modules" / "sample" / "index.js").read_text()


def test_apt(world: World, tmp_path: Path) -> None:
    """Its methods run as a user of their own."""
    for name in ("state/lists/partial", "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "state" / "status").write_text("")
    (tmp_path / "etc" / "sources.list").write_text("deb [trusted=yes] https://deb.example/ ./\n")
    options = {
        "Dir::State": tmp_path / "state",
        "Dir::State::status": tmp_path / "state" / "status",
        "Dir::Cache": tmp_path / "cache",
        "Dir::Etc": tmp_path / "etc",
        "Acquire::https::CaInfo": world.authority,
        "Acquire::Retries": "0",
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "-q", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    script = f"{' '.join(apt)} update && cd {tmp_path} && {' '.join(apt)} download sample"
    world.run(["deb.example:443"], ["sh", "-c", script])
    assert (tmp_path / "sample_1.0_all.deb").stat().st_size > 100


def test_a_browser(world: World, tmp_path: Path) -> None:
    """The server offers HTTP/3, which the policy closes: the page comes all the same."""
    audit = tmp_path / "audit.jsonl"
    chromium = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--ignore-certificate-errors", "--dump-dom"]
    chromium += [f"--user-data-dir={tmp_path}/profile", "--origin-to-force-quic-on=none.example:443"]
    chromium += ["--disable-background-networking", "--virtual-time-budget=10000", "https://www.example/"]
    options = ["--allow", "www.example:443", "--audit", str(audit)]
    done = world.internet.lab.sansnet(options, chromium, timeout=120)
    assert f">{MESSAGE}" in done.stdout or MESSAGE in done.stdout.split("</script>")[-1], done.stdout + done.stderr
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    reached = {line["name"] for line in lines if line.get("verdict") == "allow" and line.get("name")}
    assert reached == {"www.example"}


def test_what_a_command_needs_can_be_learnt(world: World, tmp_path: Path) -> None:
    learnt = tmp_path / "learnt.toml"
    fetch = (
        "for name in www git; do curl -sS --cacert " + world.authority + " https://$name.example/ -o /dev/null; done"
    )
    done = world.internet.lab.sansnet(["--learn", str(learnt)], ["sh", "-c", fetch])
    assert done.returncode == 0, done.stderr
    assert eventually(learnt.exists)
    done = world.internet.lab.sansnet(["--policy", str(learnt)], ["sh", "-c", fetch])
    assert "curl" not in done.stderr
    elsewhere = fetch.replace("www git", "elsewhere")
    done = world.internet.lab.sansnet(["--policy", str(learnt)], ["sh", "-c", elsewhere])
    assert "Could not resolve host" in done.stderr
