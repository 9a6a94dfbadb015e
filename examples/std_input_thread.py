"""Input bound, standard library only: a reader thread waits for slow storage.

The thread stands for a client of a slow object store: it sleeps 40 ms a batch. The loop
needs 5 ms for its own work.
"""

import queue
import threading
import time
import zlib

from step_clock import StepClock, seconds_wanted


def download_batches(ready):
    number = 0
    while True:
        time.sleep(0.040)
        ready.put(bytes([number % 251]) * (1 << 20))
        number += 1


def learn(batch):
    return zlib.crc32(zlib.compress(batch[: 1 << 19], 1))


def main():
    arguments = seconds_wanted(__doc__)
    ready = queue.Queue(maxsize=2)
    threading.Thread(target=download_batches, args=(ready,), daemon=True).start()
    clock = StepClock(arguments.seconds)
    while clock.running():
        learn(ready.get())
        clock.tick()


if __name__ == "__main__":
    main()
