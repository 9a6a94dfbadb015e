"""CPU bound: the model's operators take nearly the whole step.

Data are in memory and nothing is waited for. Only a smaller model, more threads or a GPU help.
"""

import time

import torch
from torch import nn

from step_clock import StepClock, seconds_wanted


def train_step(model, optimizer, features, labels):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(features), labels)
    loss.backward()
    optimizer.step()


def main():
    arguments = seconds_wanted(__doc__, threads=1)
    torch.set_num_threads(arguments.threads)
    model = nn.Sequential(nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    batch, took = 4, 0.0
    # A batch for which a step takes about 50 ms, whatever linear algebra this torch was built with.
    while took < 0.04:
        batch *= 2
        features = torch.randn(batch, 512)
        labels = torch.randint(0, 10, (batch,))
        started = time.monotonic()
        train_step(model, optimizer, features, labels)
        took = time.monotonic() - started
    clock = StepClock(arguments.seconds)
    while clock.running():
        train_step(model, optimizer, features, labels)
        clock.tick()


if __name__ == "__main__":
    main()
