"""The shop's cart, payment and search: HTTP/1.1 servers. Faults come as lines on stdin: `errors on`, `slow off`, ...

python3 service.py cart PORT PAYMENT_PORT | payment PORT | search PORT
"""

import ctypes
import http.client
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROLE, PORT, *REST = sys.argv[1:]
PR_SET_NAME = 15
FAULTS = {"errors": threading.Event(), "slow": threading.Event(), "overflow": threading.Event()}
SERVED = [0]


def pay():
    """A new connection each time: what the payment service drops shows here."""
    connection = http.client.HTTPConnection("127.0.0.1", int(REST[0]), timeout=0.4)
    try:
        connection.request("POST", "/pay", body=b"x" * 200)
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        pass
    finally:
        connection.close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        SERVED[0] += 1
        if FAULTS["slow"].is_set():
            time.sleep(1.5)
        if ROLE == "cart" and SERVED[0] % 3 == 0:
            pay()
        broken = FAULTS["errors"].is_set() and SERVED[0] % 2 == 0
        body = b"{}" if broken else b'{"price": 12}' * 40
        self.send_response(500 if broken else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 4

    def get_request(self):
        while FAULTS["overflow"].is_set():
            time.sleep(0.05)
        return super().get_request()

    def handle_error(self, request, client_address):
        pass  # customers who hang up


def main():
    ctypes.CDLL(None).prctl(PR_SET_NAME, f"shop-{ROLE}".encode())
    server = Server(("127.0.0.1", int(PORT)), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for line in sys.stdin:
        fault, state = line.split()
        FAULTS[fault].set() if state == "on" else FAULTS[fault].clear()
    os._exit(0)


main()
