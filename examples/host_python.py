"""Host bound: Python in the hot loop launches operators too small to be worth it.

The loss is added up element by element, so the interpreter and the dispatcher take the step;
the arithmetic itself is nothing. One vectorised expression would do the same.
"""

import torch
from torch import nn

from step_clock import StepClock, seconds_wanted


def slow_loss(outputs, labels):
    total = 0.0
    for row in range(outputs.shape[0]):
        for column in range(outputs.shape[1]):
            wanted = 1.0 if column == labels[row] else 0.0
            total = total + (outputs[row, column] - wanted) ** 2
    return total / outputs.numel()


def main():
    arguments = seconds_wanted(__doc__)
    torch.set_num_threads(1)
    model = nn.Linear(32, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    features = torch.randn(48, 32)
    labels = [i % 10 for i in range(48)]
    clock = StepClock(arguments.seconds)
    while clock.running():
        optimizer.zero_grad()
        loss = slow_loss(model(features), labels)
        loss.backward()
        optimizer.step()
        clock.tick()


if __name__ == "__main__":
    main()
