"""Balanced: loading, computing and saving take about a third of the step each.

Each part is given the same time, so none of them is "the" bottleneck.
"""

import os
import tempfile
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from step_clock import StepClock, seconds_wanted

PART_S = 0.03


class Readings(Dataset):
    """A batch takes PART_S to arrive."""

    def __len__(self):
        return 1 << 30

    def __getitem__(self, index):
        time.sleep(PART_S / 8)
        return torch.randn(512), index % 10


def train_step(model, optimizer, features, labels):
    until = time.monotonic() + PART_S
    while time.monotonic() < until:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(features), labels)
        loss.backward()
    optimizer.step()


def save_log(file, block):
    until = time.monotonic() + PART_S
    while time.monotonic() < until:
        file.seek(0)
        file.write(block)
        file.flush()
        os.fsync(file.fileno())


def main():
    arguments = seconds_wanted(__doc__, directory=".")
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(512, 2048), nn.ReLU(), nn.Linear(2048, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    block = os.urandom(1 << 20)
    clock = StepClock(arguments.seconds)
    with tempfile.TemporaryFile(dir=arguments.directory) as file:
        for features, labels in DataLoader(Readings(), batch_size=8, num_workers=0):
            train_step(model, optimizer, features, labels)
            save_log(file, block)
            clock.tick()
            if not clock.running():
                break


if __name__ == "__main__":
    main()
