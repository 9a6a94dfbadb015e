"""Trains a small model on the CPU until it is killed. Says "ready" after its first steps."""
import torch
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)
model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
data = TensorDataset(torch.randn(1024, 64), torch.randint(0, 10, (1024,)))
loss = torch.nn.CrossEntropyLoss()
steps = 0
while True:
    for x, y in DataLoader(data, batch_size=32):
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
        steps += 1
        if steps == 5:
            print("ready", flush=True)
