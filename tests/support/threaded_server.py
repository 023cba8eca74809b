"""A small HTTP server on loopback, as the stand-ins of the tests are."""

import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client that has read enough hangs up
            super().handle_error(request, client_address)


class Fixed(BaseHTTPRequestHandler):
    """Answers everything alike."""

    status, body, kind = 200, "{}", ""

    def do_GET(self):
        self.send_response(self.status)
        if self.kind:
            self.send_header("Content-Type", self.kind)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body.encode())

    def do_POST(self):
        self.do_GET()

    def log_message(self, *_):
        pass


@contextmanager
def serving(handler, *, tls=None, **attributes):
    """Serve while the block runs, on a free port.

    Args:
        handler: A class of request handlers.
        tls: The context of its certificate; plain HTTP without one.
        attributes: What its handlers find on themselves.

    Yields:
        The address.
    """
    server = _Server(("127.0.0.1", 0), type("Handler", (handler,), attributes))
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
