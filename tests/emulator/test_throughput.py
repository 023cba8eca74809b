"""How fast and how flat: the emulator must not be what limits a benchmark of uploads."""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from emulator.raw_client import OCTETS, Api

PIECE = memoryview(bytes(1 << 20))


@pytest.fixture
def process():
    command = [sys.executable, "-m", "mlflow_fireworks.emulator", "--quiet", "--stop-with-stdin"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield process, process.stdout.readline().strip()
    process.communicate(timeout=10)


def send(port, head, size):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head)
        left = size
        while left:
            left -= connection.send(PIECE[: min(left, len(PIECE))])
        assert b" 200 " in connection.recv(4096)


def rate(port, heads, size):
    """Bytes per second of several uploads at a time."""
    threads = [threading.Thread(target=send, args=(port, head, size)) for head in heads]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(heads) * size / (time.monotonic() - started)


def signed_heads(url, count, size):
    api = Api(url)
    api.create("chat")
    urls = api.sign("chat", {f"{number}.safetensors": size for number in range(count)}).json()["filenameToSignedUrls"]
    api.close()
    headers = f"Content-Type: {OCTETS}\r\nx-goog-content-length-range: {size},{size}\r\nContent-Length: {size}\r\n"
    return [
        f"PUT {httpx.URL(signed).raw_path.decode()} HTTP/1.1\r\nHost: {httpx.URL(signed).netloc.decode()}\r\n"
        f"{headers}\r\n".encode()
        for signed in urls.values()
    ]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads peak memory from /proc")
def test_memory_stays_flat_whatever_arrives(process):
    running, url = process
    size = 128 << 20
    rate(httpx.URL(url).port, signed_heads(url, 4, size), size)
    with Path(f"/proc/{running.pid}/status").open() as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    assert peak < 120 * 1024


SINK = """
import socket, threading
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
def take(connection):
    buffer, left = memoryview(bytearray(1 << 20)), None
    head = b""
    while b"\\r\\n\\r\\n" not in head:
        head += connection.recv(65536)
    head, _, body = head.partition(b"\\r\\n\\r\\n")
    left = int(head.rpartition(b"Content-Length: ")[2]) - len(body)
    while left:
        left -= connection.recv_into(buffer[: min(left, len(buffer))])
    connection.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\n")
while True:
    threading.Thread(target=take, args=(server.accept()[0],), daemon=True).start()
"""


@pytest.mark.skipif(
    "EMULATOR_BENCHMARK" not in os.environ, reason="a busy machine says nothing; set EMULATOR_BENCHMARK=1"
)
def test_uploads_run_at_a_third_or_more_of_a_bare_socket(process):
    size, streams = 512 << 20, 4
    sink = subprocess.Popen([sys.executable, "-c", SINK], stdout=subprocess.PIPE, text=True)
    try:
        bare = rate(
            int(sink.stdout.readline()), [b"PUT / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size] * streams, size
        )
    finally:
        sink.kill()
        sink.communicate()
    _running, url = process
    ours = rate(httpx.URL(url).port, signed_heads(url, streams, size), size)
    assert ours > bare / 3, f"bare {bare / 1e6:.0f} MB/s, emulator {ours / 1e6:.0f} MB/s"
