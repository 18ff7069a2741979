"""The client of Python's standard library: urllib, a connection for every request. `client.py REPEAT URL...`"""
import sys
import urllib.error
import urllib.request

repeat, bases = int(sys.argv[1]), sys.argv[2:]


def ask(url, method, body=None):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body, method=method)) as answer:
            answer.read()
    except urllib.error.HTTPError as answer:
        answer.read()


for base in bases:
    for _ in range(repeat):
        ask(base + "/ping/7?secret=s3cret", "GET")
        ask(base + "/missing", "GET")
        ask(base + "/broken", "GET")
        ask(base + "/ping/8", "HEAD")
        ask(base + "/echo", "POST", b"y" * 5000)
    ask(base + "/large", "GET")
