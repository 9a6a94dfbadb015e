"""Host bound: threads of the same process contend for the GIL.

Two threads "watch metrics" in pure Python; the training loop waits for the GIL whenever it
comes back from an operator.
"""

import threading

import torch
from torch import nn

from step_clock import StepClock, seconds_wanted


def watch_metrics(stop):
    seen = {}
    while not stop.is_set():
        for i in range(10_000):
            seen[i % 100] = seen.get(i % 100, 0) + i


def main():
    arguments = seconds_wanted(__doc__)
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    features = torch.randn(64, 64)
    labels = torch.randint(0, 10, (64,))
    stop = threading.Event()
    for _ in range(2):
        threading.Thread(target=watch_metrics, args=(stop,), daemon=True).start()
    clock = StepClock(arguments.seconds)
    while clock.running():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(features), labels)
        loss.backward()
        optimizer.step()
        clock.tick()
    stop.set()


if __name__ == "__main__":
    main()
