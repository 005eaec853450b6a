"""scripts/train_mnist.lua in PyTorch, for epochs.sh: the same networks, batch, rate and data, a pass over the test images after each epoch and one at the end.

usage: epochs_torch.py --model mlp|cnn --epochs N --data DIR [--indexed]. The images are f32 in memory before the first epoch. A DataLoader over a
TensorDataset serves them, shuffled, as most scripts have it; with --indexed the batches are cut out of the whole tensor by a shuffled index, which is
the fastest way without it. Prints `epoch I SECONDS` for each epoch, its validation included, and the accuracy at the end.
"""
import argparse
import gzip
import os
import struct
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

words = argparse.ArgumentParser()
words.add_argument("--model", choices=["mlp", "cnn"], default="mlp")
words.add_argument("--epochs", type=int, default=3)
words.add_argument("--batch", type=int, default=64)
words.add_argument("--data", required=True)
words.add_argument("--threads", type=int)
words.add_argument("--indexed", action="store_true")
opt = words.parse_args()
torch.manual_seed(1)
if opt.threads:
    torch.set_num_threads(opt.threads)


def idx(name):
    path = os.path.join(opt.data, name)
    with (open(path, "rb") if os.path.exists(path) else gzip.open(path + ".gz", "rb")) as f:
        data = f.read()
    sizes = struct.unpack_from(">%dI" % data[3], data, 4)
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=4 + 4 * len(sizes)).reshape(sizes).copy())


def part(name):
    return idx(name + "-images-idx3-ubyte").float().div_(255).unsqueeze(1), idx(name + "-labels-idx1-ubyte").long()


train, test = part("train"), part("t10k")
model = {
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10)),
    "cnn": lambda: nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25), nn.Flatten(),
                                 nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10)),
}[opt.model]()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)


def batches(data, size, shuffle):
    if not opt.indexed:
        return DataLoader(TensorDataset(*data), batch_size=size, shuffle=shuffle)
    if not shuffle:
        return zip(*(part.split(size) for part in data))
    return ((data[0][rows], data[1][rows]) for rows in torch.randperm(len(data[0])).split(size))


def evaluate():
    model.eval()
    loss, right = 0.0, 0
    with torch.no_grad():
        for x, y in batches(test, 256, False):
            scores = model(x)
            loss += F.cross_entropy(scores, y, reduction="sum").item()
            right += (scores.argmax(1) == y).sum().item()
    return loss / len(test[0]), right / len(test[0])


for epoch in range(opt.epochs):
    start, total, right = time.perf_counter(), 0.0, 0
    model.train()
    for x, y in batches(train, opt.batch, True):
        scores = model(x)
        loss = F.cross_entropy(scores, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        # loss and accuracy of the epoch, summed up without waiting for each step, as train_mnist.lua shows them
        total = total + loss.detach() * len(y)
        right = right + (scores.detach().argmax(1) == y).sum()
    val_loss, val_right = evaluate()
    print("epoch %d %.3f s  loss %.4f  accuracy %.4f  val_loss %.4f  val_accuracy %.4f" % (
        epoch + 1, time.perf_counter() - start, total.item() / len(train[0]), right.item() / len(train[0]), val_loss, val_right), flush=True)
print("test accuracy %.4f" % evaluate()[1])
