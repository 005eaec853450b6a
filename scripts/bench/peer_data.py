"""data.lua's pipeline with PyTorch's DataLoader: images a second, for 0 and 2 workers. usage: peer_data.py [epochs]"""
import sys
import time

import torch
from torch.utils.data import DataLoader, TensorDataset

N = 60000
epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
torch.manual_seed(0)
data = TensorDataset(torch.randint(0, 255, (N, 28, 28, 1), dtype=torch.uint8), torch.arange(N) % 10)


def bench(name, loader, scale):
    best = float("inf")
    for _ in range(epochs):
        start, seen = time.perf_counter(), 0
        for images, labels in loader:
            if scale:
                images = (images.float() / 255 - 0.1307) / 0.3081
            seen += len(labels)
        assert seen == N
        best = min(best, time.perf_counter() - start)
    print("%-36s %12.0f images/s" % (name, N / best), flush=True)


for workers in (0, 2):
    bench("PyTorch DataLoader, %d workers" % workers, DataLoader(data, 64, shuffle=True, num_workers=workers), False)
bench("PyTorch normalise, 0 workers", DataLoader(data, 64, shuffle=True), True)
