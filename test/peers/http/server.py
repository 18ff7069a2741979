"""An HTTP server of Python's standard library. `python3 server.py [BACKEND] PORT`; see servers.ts for what every peer
answers. /front asks the backend for /ping/7 from the thread that serves it.
"""
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body, timed=False):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        if timed:
            path = urlsplit(self.path).path[1:]
            print("ended", path, time.monotonic_ns(), flush=True)

    def handle_any(self):
        url = urlsplit(self.path)
        first = url.path.split("/")[1]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if first == "echo":
            self.answer(201, body)
        elif first == "large":
            self.answer(200, b"x" * 300_000)
        elif first == "missing":
            self.answer(404, b"no\n")
        elif first == "broken":
            self.answer(503, b"no\n")
        elif first == "front":
            with urllib.request.urlopen(sys.argv[1] + "/ping/7") as answer:
                self.answer(200, answer.read())
        elif first == "sleep":
            time.sleep(int(parse_qs(url.query)["millis"][0]) / 1000)
            self.answer(200, b"slept\n", timed=True)
        else:
            self.answer(200, b"pong\n")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any

    def log_message(self, *arguments):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024


server = Server(("127.0.0.1", int(sys.argv[-1])), Handler)
print("ready", flush=True)
server.serve_forever()
