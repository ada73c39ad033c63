"""An HTTPS server with a directory for each host name; it offers HTTP/3, which it does not have.

Usage: python https_server.py ADDRESS CERTIFICATE DIRECTORY. It prints a line when it is ready.
"""

from __future__ import annotations

import ssl
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def translate_path(self, path: str) -> str:
        self.directory = str(Path(sys.argv[3]) / self.headers["Host"].partition(":")[0])
        return super().translate_path(path)

    def end_headers(self) -> None:
        self.send_header("Alt-Svc", 'h3=":443"; ma=3600')
        super().end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(sys.argv[2])
    with ThreadingHTTPServer((sys.argv[1], 443), _Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        print("ready", flush=True)
        server.serve_forever()
