"""Takes the shop's logs over TCP. `stall on` on stdin: it reads so slowly that the senders have to wait.

python3 sink.py PORT
"""

import ctypes
import os
import socket
import sys
import threading
import time

PR_SET_NAME = 15
STALL = threading.Event()


def take(connection):
    try:
        while connection.recv(20_000 if STALL.is_set() else 1_000_000):
            if STALL.is_set():
                time.sleep(0.2)
    except OSError:
        pass
    connection.close()


def accept(listener):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=take, args=(connection,), daemon=True).start()


def main():
    ctypes.CDLL(None).prctl(PR_SET_NAME, b"shop-sink")
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    threading.Thread(target=accept, args=(listener,), daemon=True).start()
    for line in sys.stdin:
        STALL.set() if line.split()[1] == "on" else STALL.clear()
    os._exit(0)


main()
