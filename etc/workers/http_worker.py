#!/usr/bin/python3
"""A web server of the standard library as a worker of a superd pool, see superd-pool(7)."""

import http.server
import os
import socket

import worker


class Answer(http.server.BaseHTTPRequestHandler):
    """Says who has answered."""

    def do_GET(self):
        body = f"{self.path} answered by {os.getpid()}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """superd logs each connection."""


def serve(connection, fields):
    client = fields.get("client", "")
    Answer(connection, client.rsplit(":", 1), None)
    try:
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass


if __name__ == "__main__":
    worker.serve = serve
    worker.main()
