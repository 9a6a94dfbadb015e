"""I/O bound: every step writes a checkpoint and waits until it is on the disk.

The model is small and the data are in memory; `torch.save` and `fsync` take the step.
"""

import os
import tempfile

import torch
from torch import nn

from step_clock import StepClock, seconds_wanted


def save_checkpoint(model, optimizer, path):
    with open(path, "wb") as file:
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
        file.flush()
        os.fsync(file.fileno())


def main():
    arguments = seconds_wanted(__doc__, directory=".")
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(512, 2048), nn.ReLU(), nn.Linear(2048, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    features = torch.randn(1, 512)
    labels = torch.randint(0, 10, (1,))
    clock = StepClock(arguments.seconds)
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        while clock.running():
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(features), labels)
            loss.backward()
            optimizer.step()
            save_checkpoint(model, optimizer, os.path.join(directory, "checkpoint.pt"))
            clock.tick()


if __name__ == "__main__":
    main()
