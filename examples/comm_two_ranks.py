"""Communication bound: two gloo ranks, and rank 1 is slow.

Rank 1 computes several times as much before every all-reduce, so rank 0 waits for it. Starts
both ranks itself; profile both pids (it prints them) to have the late rank named.
"""

import os
import subprocess
import sys

import torch
import torch.distributed as dist
from torch import nn

from step_clock import StepClock, seconds_wanted


BATCH = 32


def train(rank, seconds, slow):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    model = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    features = torch.randn(BATCH, 512)
    labels = torch.randint(0, 10, (BATCH,))
    clock = StepClock(seconds, f"rank {rank}: ")
    going = torch.ones(1)
    while going.item() > 0:
        for _ in range(slow if rank == 1 else 1):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(features), labels)
            loss.backward()
        for parameter in model.parameters():
            dist.all_reduce(parameter.grad)
        optimizer.step()
        clock.tick()
        # Both ranks must leave after the same step.
        going = torch.tensor([1.0 if clock.running() else 0.0])
        dist.all_reduce(going, op=dist.ReduceOp.MIN)
    dist.destroy_process_group()


def main():
    arguments = seconds_wanted(__doc__, slow=8)
    if "RANK" in os.environ:
        train(int(os.environ["RANK"]), arguments.seconds, arguments.slow)
        return
    command = [sys.executable, __file__, "--seconds", str(arguments.seconds), "--slow", str(arguments.slow)]
    port = str(20_000 + os.getpid() % 20_000)
    ranks = []
    for rank in range(2):
        environment = dict(os.environ, RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        ranks.append(subprocess.Popen(command, env=environment))
    sys.exit(max(rank.wait() for rank in ranks))


if __name__ == "__main__":
    main()
