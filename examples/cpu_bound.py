"""CPU bound: the model's operators take nearly the whole step.

Data are in memory and nothing is waited for. Only a smaller model, more threads or a GPU help.
"""

import torch
from torch import nn

from step_clock import StepClock, seconds_wanted


def main():
    arguments = seconds_wanted(__doc__, threads=1)
    torch.set_num_threads(arguments.threads)
    model = nn.Sequential(nn.Linear(1024, 2048), nn.ReLU(), nn.Linear(2048, 2048), nn.ReLU(), nn.Linear(2048, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    features = torch.randn(256, 1024)
    labels = torch.randint(0, 10, (256,))
    clock = StepClock(arguments.seconds)
    while clock.running():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(features), labels)
        loss.backward()
        optimizer.step()
        clock.tick()


if __name__ == "__main__":
    main()
