"""A run of the plugin against real servers, each behind a proxy that makes trouble, and all that the run leaves."""

import datetime as dt
import logging
import re
import socket
import sqlite3
import ssl
import tempfile
import threading
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr
from support.checkpoints import make_llama
from support.misbehaving_store import MisbehavingStore, running
from support.tcp_proxy import TcpProxy

from mlflow_fireworks.commands import Commands
from mlflow_fireworks.config import parse_config
from mlflow_fireworks.emulator import Emulator
from mlflow_fireworks.gateway.gateway import Gateway
from mlflow_fireworks.http import Retry, Timeouts
from mlflow_fireworks.pipeline.pipeline import Pipeline
from mlflow_fireworks.progress import Lines
from mlflow_fireworks.run import Run
from mlflow_fireworks.waiting import Waiter

API, STORE = "localhost", "store"
KEY = "fw_very_secret_key"
RETRY = Retry(attempts=4, wait_initial=0.001, wait_max=0.002)
WEIGHTS = "model-00002-of-00002.safetensors"
_SECRETS = re.compile(rb"X-Goog-Signature=([0-9a-f]+)|upload_id=([\w-]+)")


class World:
    """The servers, and one model. Shared by many tests; `reset` between them."""

    def __init__(self, folder: Path) -> None:
        self.model = make_llama(folder / "llama", shards=2, hidden=256, layers=2)
        self.sizes = {path.name: path.stat().st_size for path in self.model.iterdir()}
        self.good, self.bad = make_certificate(folder / "good"), make_certificate(folder / "bad")
        self.trust = ssl.create_default_context(cafile=self.good.path)
        self._stack = ExitStack()

    def __enter__(self):
        self.emulator = self._stack.enter_context(Emulator())
        self.fireworks = self._proxy(self.emulator.url)
        files = {path.name: path.read_bytes() for path in self.model.iterdir()}
        self.kept = self._stack.enter_context(running(MisbehavingStore({"MLmodel": b"flavors: {}\n", **files})))
        self.store = self._proxy(self.kept.url)
        return self

    def __exit__(self, *exception):
        self._stack.close()

    def _proxy(self, url):
        proxy = TcpProxy(httpx.URL(url).port, self.good.context)
        return self._stack.enter_context(proxy)

    def calm(self) -> None:
        """End all trouble, and forget the requests so far."""
        for proxy in (self.fireworks, self.store):
            proxy.reset()
            proxy.certificate = self.good.context

    def reset(self) -> None:
        """As new."""
        self.calm()
        self.emulator.reset()

    def secrets(self) -> set[str]:
        """Everything that was handed out and must not be told on."""
        replies = [bytes(seen.reply) for seen in self.fireworks.seen]
        found = {part.decode() for reply in replies for match in _SECRETS.findall(reply) for part in match if part}
        return found | {KEY}


class Certificate:
    """A self-signed certificate for this machine.

    Args:
        path: The file that holds it and its key.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(path)


def make_certificate(path: Path) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, API)])
    now = dt.datetime.now(dt.timezone.utc)
    names = [x509.DNSName(API), x509.DNSName(STORE)]
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return Certificate(path)


class Site:
    """Where one command runs: its state, its temporary files, its log.

    Args:
        world: The servers.
        folder: Empty.
        patch: Sets the resolver and the folder for temporary files.
        log: Collects every record.
    """

    def __init__(self, world, folder, patch, log) -> None:
        self.world, self.folder, self.log = world, folder, log
        self.state, self.temporary = folder / "state", folder / "tmp"
        self.temporary.mkdir()
        self.now = 0.0
        self.unknown_hosts = set()
        patch.setattr(tempfile, "tempdir", str(self.temporary))
        real = socket.getaddrinfo

        def getaddrinfo(host, *args, **kwargs):
            if host in self.unknown_hosts:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return real("127.0.0.1" if host in (API, STORE) else host, *args, **kwargs)

        patch.setattr(socket, "getaddrinfo", getaddrinfo)

    def deploy(self, *, source=None, remote=False, encrypted=False, timeouts=None, **options):
        """`mlflow deployments create --name chat`; the result's state.

        Args:
            source: The model's URI; its folder when None.
            remote: From the store instead.
            encrypted: Talk TLS to the API and the store.
            timeouts: Of all requests.
            **options: As for `-C`.
        """
        world, timeouts = self.world, timeouts or Timeouts()
        scheme = "https" if encrypted else "http"
        transport = httpx.HTTPTransport(verify=world.trust)  # to make a context for each run would take longest
        reporter = Lines()
        with Gateway(
            f"{scheme}://{API}:{world.fireworks.port}",
            SecretStr(KEY),
            "acme",
            retry=RETRY,
            timeouts=timeouts,
            tell=reporter.note,
            transport=transport,
        ) as gateway:
            waiter = Waiter(reporter, lambda: self.now, self._sleep)
            config = parse_config({"max_workers": 1, "verify_hugging_face": False, **options})
            run = Run(
                gateway, Commands("fireworks"), reporter, waiter, self.state, config, retry=RETRY, timeouts=timeouts
            )
            if remote:
                source = f"{scheme}://{STORE}:{world.store.port}{httpx.URL(world.kept.url).path}"
            outcome = Pipeline(run).create("chat", source or str(world.model))
        return outcome.to_dict()["state"]

    def _sleep(self, seconds):
        self.now += seconds

    def journal(self):
        """What the journal holds: landed files and files with an open session; None when there is no journal."""
        files = list((self.state / "uploads").glob("*.sqlite"))
        if not files:
            return None
        with closing(sqlite3.connect(files[0])) as database:
            return tuple(
                {row[0] for row in database.execute(f"SELECT name FROM {table}")} for table in ("landed", "session")
            )

    def told(self):
        """Everything that any logger was told, at any level."""
        return "\n".join(f"{record.getMessage()} {record.__dict__}" for record in self.log.records)

    def leftovers(self):
        """Threads, temporary files and open files of the plugin that outlive its run."""
        threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("fireworks-")]
        files = [str(path) for path in self.temporary.rglob("*")]
        opened = []
        for descriptor in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):  # a server's thread has closed it since it was listed
                opened.append(str(descriptor.readlink()))
        return (
            [name for name in threads if name != "fireworks-emulator"]
            + files
            + [name for name in opened if name.startswith(str(self.folder))]
        )


def log_everything(log):
    log.set_level(logging.DEBUG)
    for name in (None, "httpx", "httpcore", "stamina", "mlflow.fireworks"):
        logging.getLogger(name).setLevel(logging.DEBUG)
