# A client of redis-py: does what it is told in each line of its arguments, N times, and says when it is done.
# Usage: clients.py PORT single|pipeline|transaction|threads N
import sys
import threading

import redis

port, mode, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
client = redis.Redis(host="127.0.0.1", port=port)


def single(connection, number):
    for i in range(number):
        connection.set(f"k{i % 10}", "v" * (i % 5000))
        connection.get(f"k{i % 10}")
        connection.hset("h", f"f{i % 7}", i)


if mode == "single":
    single(client, count)
elif mode == "pipeline":
    for _ in range(count // 500):
        pipe = client.pipeline(transaction=False)
        for i in range(500):
            pipe.set(f"k{i}", i)
            pipe.incr("n")
            pipe.lrange("l", 0, -1)
        pipe.execute()
elif mode == "transaction":
    for i in range(count):
        with client.pipeline(transaction=True) as pipe:
            pipe.set("a", i)
            pipe.lpush("l", i)
            pipe.ltrim("l", 0, 3)
            pipe.execute()
elif mode == "threads":
    threads = [threading.Thread(target=single, args=(redis.Redis(host="127.0.0.1", port=port), count)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
print("done")
