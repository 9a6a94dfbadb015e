"""The loop that benches/overhead.py slows down: a small transformer trained on the CPU.

Writes one line a step to the file named by --log: CLOCK_MONOTONIC ns at its end and its length in ns.
SIGUSR1 starts torch.profiler, SIGUSR2 stops it.
"""

import argparse
import signal
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

WIDTH, LENGTH, VOCABULARY = 128, 64, 1000


class Tokens(Dataset):
    def __len__(self):
        return 1_000_000

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return torch.randint(VOCABULARY, (LENGTH + 1,), generator=generator)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, batch_first=True, dropout=0.0)
        self.body = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, tokens):
        return self.head(self.body(self.embed(tokens)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", required=True)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    wanted = {"profile": False}
    signal.signal(signal.SIGUSR1, lambda *_: wanted.update(profile=True))
    signal.signal(signal.SIGUSR2, lambda *_: wanted.update(profile=False))
    model, profiler = Model(), None
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loss_of = nn.CrossEntropyLoss()
    loader = DataLoader(Tokens(), batch_size=8, num_workers=1)
    end = time.monotonic() + options.seconds
    with open(options.log, "w", buffering=1) as log:
        last = time.monotonic_ns()
        for tokens in loader:
            output = model(tokens[:, :-1])
            loss = loss_of(output.flatten(0, 1), tokens[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            now = time.monotonic_ns()
            log.write(f"{now} {now - last}\n")
            last = now
            if wanted["profile"] and profiler is None:
                profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
                profiler.start()
                last = time.monotonic_ns()
            elif not wanted["profile"] and profiler is not None:
                profiler.stop()
                profiler = None
                last = time.monotonic_ns()
            if time.monotonic() > end:
                break


if __name__ == "__main__":
    main()
