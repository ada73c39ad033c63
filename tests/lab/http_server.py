"""An HTTP server for one directory: GET sends a file, PUT and POST answer with the SHA-256 of what it got.

Usage: python http_server.py PORT DIRECTORY.
It serves every address of both families, and prints a line when it is ready.
"""

from __future__ import annotations

import hashlib
import socket
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments, directory=sys.argv[2])

    def do_PUT(self) -> None:
        if self.headers.get("Expect") == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        left = int(self.headers["Content-Length"])
        digest = hashlib.sha256()
        while left:
            data = self.rfile.read(min(left, 1 << 18))
            if not data:
                return
            digest.update(data)
            left -= len(data)
        answer = digest.hexdigest().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_PUT

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6


if __name__ == "__main__":
    with _Server(("::", int(sys.argv[1])), _Handler) as server:
        print("ready", flush=True)
        server.serve_forever()
