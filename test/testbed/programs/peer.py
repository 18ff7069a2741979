"""The testbed's workload written in Python: threads and blocking sockets, HTTP/1.1 and plain TCP, server and client
in one process. The commands it takes on stdin and what it answers are described in ../peers.ts."""

import json
import os
import socket
import sys
import threading
import time
from urllib.parse import parse_qs, urlsplit

NAME = os.environ["PEER_NAME"]
LOCK = threading.Lock()
SERVED = {}
OPEN = 0


def empty_counts():
    return {"connections": 0, "requests": 0, "sent": 0, "received": 0, "failed": 0}


class Connection:
    """A socket with a read buffer that counts the payload of both directions."""

    def __init__(self, sock):
        self.sock, self.buffer, self.sent, self.received = sock, b"", 0, 0
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def fill(self):
        chunk = self.sock.recv(65536)
        if not chunk:
            raise EOFError
        self.received += len(chunk)
        self.buffer += chunk

    def until(self, mark):
        while mark not in self.buffer:
            self.fill()
        head, self.buffer = self.buffer.split(mark, 1)
        return head.decode("latin-1")

    def skip(self, size):
        while len(self.buffer) < size:
            size -= len(self.buffer)
            self.buffer = b""
            self.fill()
        self.buffer = self.buffer[size:]

    def send(self, data):
        self.sock.sendall(data)
        self.sent += len(data)


def parse_head(text):
    first, *lines = text.split("\r\n")
    pairs = (line.split(":", 1) for line in lines)
    return first, {key.strip().lower(): value.strip() for key, value in pairs}


def serve_http(connection, who):
    while True:
        first, headers = parse_head(connection.until(b"\r\n\r\n"))
        connection.skip(int(headers.get("content-length", 0)))
        who["name"] = headers.get("x-peer", "?")
        who["requests"] += 1
        query = parse_qs(urlsplit(first.split(" ")[1]).query)
        down = int(query.get("down", ["0"])[0])
        status = int(query.get("status", ["0"])[0]) or 200
        head = f"HTTP/1.1 {status} Status\r\nX-Peer: {NAME}\r\nContent-Length: {down}\r\n\r\n"
        connection.send(head.encode() + bytes(down))


def serve_raw(connection, who):
    """Answers `RAW <client> <up> <down>\\n`, up bytes, with `<server>\\n` and down bytes, as often as asked."""
    while True:
        _, who["name"], up, down = connection.until(b"\n").split(" ")
        connection.skip(int(up))
        who["requests"] += 1
        connection.send(NAME.encode() + b"\n" + bytes(int(down)))


def serve(sock):
    global OPEN
    connection, who = Connection(sock), {"name": "?", "requests": 0}
    try:
        while len(connection.buffer) < 4:
            connection.fill()
        (serve_raw if connection.buffer.startswith(b"RAW ") else serve_http)(connection, who)
    except (EOFError, OSError):
        pass
    sock.close()
    with LOCK:
        total = SERVED.setdefault(who["name"], empty_counts())
        total["connections"] += 1
        total["requests"] += who["requests"]
        total["sent"] += connection.sent
        total["received"] += connection.received
        OPEN -= 1


def accept_forever(listener):
    global OPEN
    while True:
        sock, _ = listener.accept()
        with LOCK:
            OPEN += 1
        threading.Thread(target=serve, args=(sock,), daemon=True).start()


def call_http(command, connection, result):
    for _ in range(command["requests"]):
        up, down, status = command["up"], command["down"], command.get("status", 0)
        method = "POST" if up else "GET"
        head = f"{method} {command['path']}?down={down}&status={status} HTTP/1.1\r\nHost: {command['host']}\r\n"
        connection.send(f"{head}X-Peer: {NAME}\r\nContent-Length: {up}\r\n\r\n".encode() + bytes(up))
        _, headers = parse_head(connection.until(b"\r\n\r\n"))
        connection.skip(int(headers.get("content-length", 0)))
        result["who"] = headers.get("x-peer", "?")
        result["requests"] += 1
        time.sleep(command.get("pauseMillis", 0) / 1000)


def call_raw(command, connection, result):
    for _ in range(command["requests"]):
        up, down = command["up"], command["down"]
        connection.send(f"RAW {NAME} {up} {down}\n".encode() + bytes(up))
        result["who"] = connection.until(b"\n")
        connection.skip(down)
        result["requests"] += 1
        time.sleep(command.get("pauseMillis", 0) / 1000)


def call_once(command):
    try:
        sock = socket.create_connection((command["host"], command["port"]), timeout=10)
    except OSError:
        return "?", {**empty_counts(), "failed": 1}
    sock.settimeout(None)
    connection, result, failed = Connection(sock), {"who": "?", "requests": 0}, 0
    try:
        (call_http if command["protocol"] == "http" else call_raw)(command, connection, result)
    except (EOFError, OSError):
        failed = 1
    sock.close()
    counted = {"sent": connection.sent, "received": connection.received, "failed": failed}
    return result["who"], {"connections": 1, "requests": result["requests"], **counted}


def call(command):
    results = {}
    for _ in range(command["connections"]):
        who, counted = call_once(command)
        total = results.setdefault(who, empty_counts())
        for key, value in counted.items():
            total[key] += value
    reply(command["id"], results)


def reply(number, result):
    line = json.dumps({"id": number, "result": result}) + "\n"
    with LOCK:
        sys.stdout.write(line)
        sys.stdout.flush()


def main():
    port = int(os.environ.get("PEER_PORT", "0"))
    if port:
        listener = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=512)
        threading.Thread(target=accept_forever, args=(listener,), daemon=True).start()
    reply(0, "ready")
    for line in sys.stdin:
        command = json.loads(line)
        if command["op"] == "call":
            threading.Thread(target=call, args=(command,), daemon=True).start()
        if command["op"] == "report":
            with LOCK:
                snapshot = json.loads(json.dumps({"served": SERVED, "open": OPEN}))
            reply(command["id"], snapshot)


main()
