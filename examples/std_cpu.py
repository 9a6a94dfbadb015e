"""CPU bound, standard library only: hashing and compressing take the whole step.

Both run in native libraries; Python only calls them.
"""

import hashlib
import os
import zlib

from step_clock import StepClock, seconds_wanted


def compress(block):
    return zlib.compress(block, 6)


def train_step(block):
    small = compress(block)
    return hashlib.sha512(block * 8).digest() + hashlib.sha256(small).digest()


def main():
    arguments = seconds_wanted(__doc__)
    block = os.urandom(1 << 16) * 16
    clock = StepClock(arguments.seconds)
    while clock.running():
        train_step(block)
        clock.tick()


if __name__ == "__main__":
    main()
