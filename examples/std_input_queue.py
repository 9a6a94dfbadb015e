"""Input bound, standard library only: a producer process feeds a queue too slowly.

The producer compresses and parses samples; the consumer needs a fraction of that time for
its own work and waits in `Queue.get`.
"""

import hashlib
import multiprocessing
import zlib

from step_clock import StepClock, seconds_wanted


def make_sample(number):
    data = number.to_bytes(8, "little") * 8192
    for _ in range(4):
        data = zlib.compress(data, 6) + data[: 1 << 15]
    return data


def produce(queue):
    number = 0
    while True:
        queue.put([make_sample(number + i) for i in range(8)])
        number += 8


def consume(batch):
    digest = hashlib.sha256()
    for sample in batch:
        digest.update(sample)
    return digest.hexdigest()


def main():
    arguments = seconds_wanted(__doc__)
    queue = multiprocessing.Queue(maxsize=4)
    producer = multiprocessing.Process(target=produce, args=(queue,), daemon=True)
    producer.start()
    clock = StepClock(arguments.seconds)
    while clock.running():
        consume(queue.get())
        clock.tick()
    producer.terminate()


if __name__ == "__main__":
    main()
