"""Input bound: two DataLoader workers wait for the disk.

Samples are read with O_DIRECT where the file system has it, and dropped from the page cache
otherwise, so that every read goes to the device. The workers sleep in reads; the CPU is idle.
"""

import mmap
import os
import random
import tempfile

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from step_clock import StepClock, seconds_wanted

BLOCK = 4096
READS = 64


class ColdFile(Dataset):
    """Samples spread over a file that is never in the page cache."""

    def __init__(self, path, blocks):
        self.path = path
        self.blocks = blocks
        self.descriptor = None

    def __len__(self):
        return 1 << 30

    def open(self):
        try:
            self.descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECT)
        except OSError:
            self.descriptor = os.open(self.path, os.O_RDONLY)
        # O_DIRECT wants memory that is aligned to the block.
        self.buffer = mmap.mmap(-1, BLOCK)

    def __getitem__(self, index):
        if self.descriptor is None:
            self.open()
        total = 0
        for _ in range(READS):
            at = random.randrange(self.blocks) * BLOCK
            os.preadv(self.descriptor, [self.buffer], at)
            os.posix_fadvise(self.descriptor, at, BLOCK, os.POSIX_FADV_DONTNEED)
            total += self.buffer[0]
        return torch.full((256,), float(total)), total % 10


def main():
    arguments = seconds_wanted(__doc__, megabytes=256, directory=".")
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with tempfile.NamedTemporaryFile(dir=arguments.directory) as file:
        for _ in range(arguments.megabytes):
            file.write(os.urandom(1 << 20))
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        dataset = ColdFile(file.name, arguments.megabytes * (1 << 20) // BLOCK)
        clock = StepClock(arguments.seconds)
        for features, labels in DataLoader(dataset, batch_size=8, num_workers=2):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(features), labels)
            loss.backward()
            optimizer.step()
            clock.tick()
            if not clock.running():
                break


if __name__ == "__main__":
    main()
