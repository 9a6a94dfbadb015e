"""Communication bound, standard library only: two ranks add their gradients over a socket.

Rank 1 computes much longer, so rank 0 waits for it in `recv`. Starts both ranks itself and
prints their pids.
"""

import array
import hashlib
import os
import socket
import subprocess
import sys

from step_clock import StepClock, seconds_wanted


def receive(peer, size):
    parts = []
    while size:
        part = peer.recv(min(size, 1 << 20))
        if not part:
            sys.exit(0)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def add_gradients(peer, gradients):
    mine = gradients.tobytes()
    peer.sendall(mine)
    theirs = array.array("d", receive(peer, len(mine)))
    return array.array("d", map(float.__add__, gradients, theirs))


def backward(block, times):
    digest = hashlib.sha256()
    for _ in range(times):
        digest.update(block)
    return array.array("d", (byte / 255.0 for byte in digest.digest() * 8))


def train(rank, seconds, slow, port):
    if rank == 0:
        server = socket.create_server(("127.0.0.1", port))
        peer, _ = server.accept()
    else:
        peer = connect(port)
    block = os.urandom(1 << 20)
    clock = StepClock(seconds, f"rank {rank}: ")
    while clock.running():
        gradients = backward(block, slow if rank == 1 else 4)
        add_gradients(peer, gradients)
        clock.tick()


def connect(port):
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            pass


def main():
    arguments = seconds_wanted(__doc__, slow=40)
    if "RANK" in os.environ:
        train(int(os.environ["RANK"]), arguments.seconds, arguments.slow, int(os.environ["MASTER_PORT"]))
        return
    port = str(20_000 + os.getpid() % 20_000)
    command = [sys.executable, __file__, "--seconds", str(arguments.seconds), "--slow", str(arguments.slow)]
    ranks = [
        subprocess.Popen(command, env=dict(os.environ, RANK=str(rank), MASTER_PORT=port)) for rank in range(2)
    ]
    for rank in ranks:
        rank.wait()


if __name__ == "__main__":
    main()
