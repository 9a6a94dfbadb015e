"""Input bound: one DataLoader worker can't keep up with the model.

The worker is busy all the time, the main process waits for it. More workers help, as long
as there are CPUs for them.
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from step_clock import StepClock, seconds_wanted


class DecodedImages(Dataset):
    """Samples that take a few milliseconds of CPU each."""

    def __len__(self):
        return 1 << 30

    def __getitem__(self, index):
        value = index
        for _ in range(40_000):
            value = (value * 1103515245 + 12345) & 0x7FFFFFFF
        return torch.full((256,), float(value % 97)), value % 10


def main():
    arguments = seconds_wanted(__doc__, workers=1)
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loader = DataLoader(DecodedImages(), batch_size=16, num_workers=arguments.workers)
    clock = StepClock(arguments.seconds)
    for features, labels in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(features), labels)
        loss.backward()
        optimizer.step()
        clock.tick()
        if not clock.running():
            break


if __name__ == "__main__":
    main()
