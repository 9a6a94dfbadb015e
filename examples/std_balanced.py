"""Balanced, standard library only: loading, computing and saving take a third of the step each."""

import hashlib
import os
import tempfile
import time

from step_clock import StepClock, seconds_wanted

PART_S = 0.025


def load_batch():
    time.sleep(PART_S)
    return b"x" * (1 << 20)


def compute(batch):
    until = time.monotonic() + PART_S
    while time.monotonic() < until:
        digest = hashlib.sha256(batch).digest()
    return digest


def save(file, block):
    until = time.monotonic() + PART_S
    while time.monotonic() < until:
        file.seek(0)
        file.write(block)
        file.flush()
        os.fsync(file.fileno())


def main():
    arguments = seconds_wanted(__doc__, directory=".")
    clock = StepClock(arguments.seconds)
    block = os.urandom(1 << 20)
    with tempfile.TemporaryFile(dir=arguments.directory) as file:
        while clock.running():
            compute(load_batch())
            save(file, block)
            clock.tick()


if __name__ == "__main__":
    main()
