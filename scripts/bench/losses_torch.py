"""Trains the networks of losses.lua in PyTorch, from the same weights on the same batches, and compares the losses.

usage: nnlua scripts/bench/losses.lua FOLDER, then python3 scripts/bench/losses_torch.py FOLDER. Prints, for each training, the mean loss of the last fifth
of the steps there and here; and, for each network, how far the means over all its trainings are apart (within 2 % is what is asked).
THREADS is the number of threads (2).
"""
import glob
import json
import os
import re
import sys

import h5py
import numpy as np
import torch
import torch.nn.functional as F

folder = sys.argv[1]
import peer_torch  # its networks; nothing is measured on import

torch.set_num_threads(int(os.environ.get("THREADS", 2)))


def load(model, file):
    """Weights from our file. Both sides list them in the same order, but for GPT's table of places, which PyTorch has first."""
    with h5py.File(file, "r") as h5:
        arrays = [np.array(h5[entry["path"]]) for entry in json.loads(h5["nnlua"].attrs["weights"])]
    named = sorted(model.named_parameters(), key=lambda item: item[0] != "e.weight")
    with torch.no_grad():
        for (name, p), a in zip(named, arrays):
            if a.ndim == 4:
                a = a.transpose(3, 2, 0, 1)  # HWIO -> OIHW
            elif a.ndim == 2 and name not in ("e.weight", "p"):
                a = a.T
            assert tuple(p.shape) == a.shape, (name, tuple(p.shape), a.shape)
            p.copy_(torch.tensor(a))
    return model


def resnet20(file):
    records = np.fromfile(folder + "/resnet20.bin", np.uint8).reshape(-1, 3073)
    x, y = torch.tensor(records[:, 1:].reshape(-1, 3, 32, 32)).float() / 64 - 2, torch.tensor(records[:, 0]).long()
    model = load(peer_torch.resnet20(), file)
    for conv in model.modules():  # "same" padding of stride 2 adds a row and a column behind the image only, as in Keras
        if isinstance(conv, torch.nn.Conv2d) and conv.kernel_size == (3, 3) and conv.stride == (2, 2):
            conv.padding = (0, 0)
            conv.register_forward_pre_hook(lambda _, args: F.pad(args[0], (0, 1, 0, 1)))
    with h5py.File(file, "r") as h5:
        lr = json.loads(h5["nnlua"].attrs["user"])["lr"]
    return model, torch.optim.SGD(model.parameters(), lr, momentum=0.9, weight_decay=1e-4), lambda at: (x[at], y[at])


def gpt(file):
    text, context = torch.tensor(np.fromfile(folder + "/gpt.txt", np.uint8)).long(), torch.arange(64)
    model = load(peer_torch.GPT(V=128), file)

    def batch(at):
        places = at[:, None] + context
        return text[places], text[places + 1].flatten()

    return model, torch.optim.Adam(model.parameters(), 1e-3, eps=1e-7), batch


for name, make in (("resnet20", resnet20), ("gpt", gpt)):
    means = []
    for file in sorted(glob.glob("%s/%s_*.losses" % (folder, name))):
        base = file[:-len(".losses")]
        ours = np.loadtxt(file)
        places = torch.tensor(np.fromfile(base + ".places", np.int32).reshape(len(ours), -1)).long()
        model, opt, batch = make(base + ".h5")
        theirs = []
        for at in places:
            x, y = batch(at)
            opt.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            opt.step()
            theirs.append(loss.item())
        last = max(1, len(ours) // 5)
        means.append((ours[-last:].mean(), np.mean(theirs[-last:])))
        print("%s seed %s  first step %.4f %.4f  last fifth of %d steps: nnlua %.4f  PyTorch %.4f" % (
            name, re.search(r"_(\d+)$", base)[1], ours[0], theirs[0], len(ours), *means[-1]), flush=True)
    if means:
        a, b = np.mean(means, axis=0)
        print("%s mean of %d: nnlua %.4f  PyTorch %.4f  %+.2f %%" % (name, len(means), a, b, (a / b - 1) * 100), flush=True)
