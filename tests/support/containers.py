"""Containers without a container engine, so that deployment files can be run as they stand.

A container is a process in namespaces that bubblewrap makes: with a root folder of its own that holds this machine's
programs and this Python environment, with the user, volumes and host names that its file asks for, and without
capabilities. Containers share a network that is nothing but a loopback, so all ports are free.
"""

import ctypes
import fcntl
import json
import logging
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from support.hooks_world import wait_until

REPOSITORY = Path(__file__).parents[2]
logger = logging.getLogger(__name__)
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1  # linux/sockios.h, linux/if.h
_POSTGRES = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/usr/bin"))


def find_obstacle(*programs: str) -> str:
    """Why containers with these programs cannot be run here; empty when they can."""
    path = f"{os.environ['PATH']}:{_POSTGRES}"
    if missing := [program for program in ("unshare", "bwrap", *programs) if shutil.which(program, path=path) is None]:
        return f"not installed: {', '.join(missing)}"
    tried = subprocess.run(
        ["unshare", "--net", "bwrap", "--unshare-user", "--ro-bind", "/", "/", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"namespaces cannot be made here: {tried.stderr.strip()}" if tried.returncode else ""


@contextmanager
def private_network() -> Iterator[None]:
    """Take this thread, and all that it starts meanwhile, to a network that is only a loopback."""
    libc = ctypes.CDLL(None, use_errno=True)

    def check(failed: int) -> None:
        if failed:
            raise OSError(ctypes.get_errno(), "a network namespace could not be entered")

    with Path("/proc/thread-self/ns/net").open("rb") as outside:
        check(libc.unshare(_CLONE_NEWNET))
        try:
            with socket.socket() as any_socket:
                fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh", b"lo", _IFF_UP))
            yield
        finally:
            check(libc.setns(outside.fileno(), _CLONE_NEWNET))


@dataclass(frozen=True)
class Image:
    """What a container is made from.

    Args:
        environ: Its variables.
        user: Who runs in it.
        home: Where programs start; belongs to the user.
        command: What runs unless the container says.
    """

    environ: Mapping[str, str]
    user: int
    home: str
    command: Sequence[str] = ()

    @classmethod
    def read(cls, dockerfile: Path) -> "Image":
        """The image that a Dockerfile makes; this Python environment stands for what its RUN lines install."""
        lines = dict(re.findall(r"^(ENV|USER|WORKDIR) (.+)$", dockerfile.read_text(), re.MULTILINE))
        environ = dict(word.split("=", 1) for word in shlex.split(lines["ENV"]))
        user = int(lines["USER"].partition(":")[0])
        return cls(environ, user, lines["WORKDIR"])


# These stand for the official images, whose users, folders and variables are described on their pages.
_SET_UP_POSTGRES = """
initdb --no-sync --auth-host=scram-sha-256 --username="$POSTGRES_USER" --pwfile=<(echo "$POSTGRES_PASSWORD")
echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
postgres --single postgres <<<"CREATE DATABASE $POSTGRES_DB"
exec postgres -c listen_addresses='*' -c unix_socket_directories=/run/postgresql
"""
POSTGRES = Image(
    {"PGDATA": "/var/lib/postgresql/data", "PATH": f"{_POSTGRES}:/usr/bin"},
    999,
    "/run/postgresql",
    ["bash", "-euc", _SET_UP_POSTGRES],
)
REDIS = Image({}, 999, "/data")


@dataclass
class Container:
    """One container. It ends with this process at the latest.

    Args:
        image: What it is made from.
        log: File for its output; its name is the container's.
        command: What runs in it; empty for the image's.
        environ: Variables beside those of the image.
        mounts: Folders and files of this machine by their places in it.
        writable: Those places that are not read-only.
        tmpfs: Places that are empty at first and gone at the end.
        hosts: Names that lead to the loopback.
        read_only: Nothing may be written but to writable places.
        has_init: Its program is not the first process, so that signals mean to it what they usually do.
    """

    image: Image
    log: Path
    command: Sequence[str] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    mounts: Mapping[str, Path] = field(default_factory=dict)
    writable: Collection[str] = ()
    tmpfs: Sequence[str] = ()
    hosts: Collection[str] = ()
    read_only: bool = True
    has_init: bool = False
    process: "subprocess.Popen[bytes] | None" = None
    _first_pid: int = 0

    def start(self) -> "Container":
        report, told = os.pipe()
        options = ["--info-fd", str(told)] + ([] if self.has_init else ["--as-pid-1"])
        command = [*self._surroundings(), *options, *(self.command or self.image.command)]
        with self.log.open("ab") as log, os.fdopen(report) as reported:
            self.process = subprocess.Popen(
                command, env=self._environ(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[told]
            )
            os.close(told)
            answer = reported.read()
        assert answer, self.read_log()
        self._first_pid = json.loads(answer)["child-pid"]
        return self

    def run(self, *command: str, seconds: float = 60) -> "subprocess.CompletedProcess[str]":
        """Run a command in the same surroundings."""
        return subprocess.run(
            [*self._surroundings(), *command],
            env=self._environ(),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def read_log(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_until(self, condition: Callable[[], object], what: str, seconds: float = 90) -> None:
        """Wait for something that comes only while its program runs."""

        def check() -> object:
            assert self.process
            assert self.process.poll() is None, self.read_log()
            return condition()

        wait_until(check, what, seconds)

    def stop(self, seconds: float) -> int:
        """Ask its program to end; fails when that takes longer. Returns the exit code."""
        assert self.process
        pid = self._first_pid
        if self.has_init:
            pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        os.kill(pid, signal.SIGTERM)
        return self.process.wait(seconds)

    def kill(self) -> None:
        """End it with all that runs in it. A failed test shows what it wrote."""
        if self.process:
            self.process.kill()
            self.process.wait(30)
            logger.info("%s wrote:\n%s", self.log.stem, self.read_log())

    def _environ(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}:/usr/bin:/usr/sbin"
        return {"PATH": path, "HOME": "/", **self.image.environ, **self.environ}

    def _surroundings(self) -> list[str]:
        """The beginning of a command that runs in the container."""
        user = str(self.image.user)
        etc = self.log.with_suffix(".etc")
        if not etc.exists():  # once: a file that is written anew is empty for a moment, to those who run already
            etc.mkdir()
            (etc / "hosts").write_text(f"127.0.0.1 localhost {' '.join(self.hosts)}\n")
            (etc / "passwd").write_text(f"app:x:{user}:{user}::/:/bin/sh\n")
        words = ["bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent"]
        words += ["--uid", user, "--gid", user, "--cap-drop", "ALL", "--proc", "/proc", "--dev", "/dev"]
        words += ["--dir", self.image.home, "--chdir", self.image.home]
        for folder in ("bin", "sbin", "lib", "lib64"):
            words += ["--symlink", f"usr/{folder}", f"/{folder}"]
        for folder in self.tmpfs:  # first, as this Python environment may lie below one of them
            words += ["--tmpfs", folder]
        for place in ("/usr", sys.base_prefix, sys.prefix, str(REPOSITORY), "/etc/ssl", "/etc/nsswitch.conf"):
            words += ["--ro-bind-try", place, place]
        for place, source in {"/etc/hosts": etc / "hosts", "/etc/passwd": etc / "passwd", **self.mounts}.items():
            words += ["--bind" if place in self.writable else "--ro-bind", str(source), place]
        return [*words, "--remount-ro", "/"] if self.read_only else words


class Compose:
    """A Compose file, run one service after the other.

    Args:
        file: The file.
        variables: What its `.env` holds.
        images: By their names.
        environ: Variables that every container sees beside those in the file.
        folder: Takes volumes and logs.
        secrets: What the files of its secrets hold, by their names.
    """

    # A key that is in neither of the two is one that nobody has thought about here.
    _PLAYED = frozenset(
        [
            "image",
            "command",
            "environment",
            "secrets",
            "volumes",
            "tmpfs",
            "networks",
            "depends_on",
            "healthcheck",
            "deploy",
            "read_only",
            "init",
        ]
    )
    _LEFT_OUT = frozenset(
        [
            "build",
            "restart",
            "ports",
            "stop_grace_period",
            "cap_drop",
            "security_opt",
            "user",
            "mem_limit",
            "pids_limit",
        ]
    )

    def __init__(
        self,
        file: Path,
        variables: Mapping[str, str],
        images: Mapping[str, Image],
        environ: Mapping[str, str],
        folder: Path,
        *,
        secrets: Mapping[str, str],
    ) -> None:
        self._home = file.parent
        self._images = images
        self._environ = environ
        self._folder = folder
        content = yaml.safe_load(interpolate(file.read_text(), variables))
        self.services: dict[str, Any] = content["services"]
        self._secrets = {name: folder / secret["file"] for name, secret in content["secrets"].items()}
        for name, path in self._secrets.items():
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"{secrets[name]}\n")
        self.containers: dict[str, list[Container]] = {}

    def up(self) -> None:
        """Start everything, each service when those that it depends on are as it asks for."""
        for name, service in self.services.items():
            if unknown := service.keys() - self._PLAYED - self._LEFT_OUT:
                raise NotImplementedError(f"{name}: {unknown}")
            for other, wanted in service.get("depends_on", {}).items():
                assert wanted == {"condition": "service_healthy"}
                self.wait_healthy(other)
            replicas = service.get("deploy", {}).get("replicas", 1)
            self.containers[name] = [self._make(name, number).start() for number in range(replicas)]

    def wait_healthy(self, name: str) -> None:
        check = self.services[name]["healthcheck"]
        kind, *command = check["test"]
        assert kind == "CMD"
        (container,) = self.containers[name]

        def is_healthy() -> bool:
            try:
                return container.run(*command, seconds=read_seconds(check["timeout"])).returncode == 0
            except subprocess.TimeoutExpired:  # as Compose does: that try failed
                return False

        limit = read_seconds(check["interval"]) * check["retries"]
        container.wait_until(is_healthy, f"{name} is healthy", limit)

    def down(self) -> None:
        for container in [container for group in self.containers.values() for container in group]:
            container.kill()

    def _make(self, name: str, number: int) -> Container:
        service = self.services[name]
        volumes = [volume.split(":") for volume in service.get("volumes", [])]
        secrets = {f"/run/secrets/{secret}": self._secrets[secret] for secret in service.get("secrets", [])}
        return Container(
            self._images[service["image"]],
            self._folder / f"{name}-{number}.log",
            command=service.get("command", ()),
            environ={**self._environ, **service.get("environment", {})},
            mounts={place: self._find_volume(source) for source, place, *_ in volumes} | secrets,
            writable=[place for _, place, *mode in volumes if mode != ["ro"]],
            tmpfs=[place.partition(":")[0] for place in service.get("tmpfs", [])],
            hosts=[other for other in self.services if self._networks(name) & self._networks(other)],
            read_only=service.get("read_only", False),
            has_init=service.get("init", False),
        )

    def _find_volume(self, source: str) -> Path:
        if source.startswith("."):
            return (self._home / source).resolve(strict=True)
        volume = self._folder / "volumes" / source
        volume.mkdir(parents=True, exist_ok=True)
        return volume

    def _networks(self, name: str) -> set[str]:
        return set(self.services[name].get("networks", ["default"]))


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """Fill in `${NAME}`, `${NAME:?message}` and `${NAME:-default}` as Compose does."""

    def fill(found: re.Match[str]) -> str:
        name, operator, word = found.groups()
        value = variables.get(name, "")
        if not value and operator != "-":
            raise LookupError(f"{name}: {word or 'is not set'}")
        return value or word

    return re.sub(r"\$\{(\w+)(?::([?-])([^}]*))?\}", fill, text)


def read_seconds(duration: str) -> int:
    """Of `90s` or `2m`."""
    return int(duration[:-1]) * {"s": 1, "m": 60}[duration[-1]]
