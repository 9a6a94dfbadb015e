# What the live tests watch: every kind of frame, for a while.
import asyncio
import sys
import threading
import time
import zlib

DATA = bytes(i * i % 251 for i in range(200000))


def leaf(n):
    total = 0
    for i in range(n):
        total += i * i
    return total


class Model:
    def forward(self, n):
        return self.inner(n)

    def inner(self, n):
        return leaf(n)


def recurse(depth):
    if depth == 0:
        return leaf(50000)
    return recurse(depth - 1)


def generate(n):
    for _ in range(n):
        yield leaf(3000)


def consume():
    for _ in generate(20):
        pass


def native():
    return zlib.compress(DATA, 6)


def pause():
    time.sleep(0.02)


async def task():
    await asyncio.sleep(0.001)
    return leaf(20000)


async def gather():
    await asyncio.gather(task(), task())


def worker(until):
    while time.time() < until:
        Model().forward(3000)


def main(seconds):
    until = time.time() + seconds
    thread = threading.Thread(target=worker, args=(until,))
    thread.start()
    while time.time() < until:
        Model().forward(50000)
        recurse(200)
        consume()
        native()
        pause()
        asyncio.run(gather())
    thread.join()


print("ready", flush=True)
main(float(sys.argv[2]))
