"""One of two ranks that reduce and gather over gloo until killed: gloo_pair.py RANK FILE."""
import sys

import torch
import torch.distributed as dist

rank = int(sys.argv[1])
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
print("ready", flush=True)
while True:
    x = torch.ones(10000) * (rank + 1)
    dist.all_reduce(x)
    assert x[0].item() == 3
    dist.broadcast(x, 0, async_op=True).wait()
    parts = [torch.zeros(10000) for _ in range(2)]
    dist.all_gather(parts, x)
    dist.barrier()
