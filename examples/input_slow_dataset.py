"""Input bound: the main process runs a slow Dataset itself (num_workers=0).

Every sample is decoded in Python, so the model waits for `__getitem__`. Moving the loading
into workers, or making `__getitem__` faster, speeds the steps up.
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from step_clock import StepClock, seconds_wanted


class SlowDataset(Dataset):
    """Samples that take about 3 ms of Python each to decode."""

    def __len__(self):
        return 1 << 30

    def __getitem__(self, index):
        value = index
        for _ in range(40_000):
            value = (value * 1103515245 + 12345) & 0x7FFFFFFF
        return torch.full((256,), float(value % 97)), value % 10


def train_step(model, optimizer, features, labels):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(features), labels)
    loss.backward()
    optimizer.step()


def main():
    arguments = seconds_wanted(__doc__)
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    clock = StepClock(arguments.seconds)
    for features, labels in DataLoader(SlowDataset(), batch_size=16, num_workers=0):
        train_step(model, optimizer, features, labels)
        clock.tick()
        if not clock.running():
            break


if __name__ == "__main__":
    main()
