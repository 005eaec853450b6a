#!/usr/bin/python3
"""Write golden/torch/*.safetensors: weights, inputs and predictions of PyTorch's models (1.13), for torch_weights_spec.lua.

Each file holds the state_dict under its own names, and beside it NAME.io.safetensors with x (channels last) and y. The writer is here, so that the
reader is checked against bytes that this project's writer did not make.
"""
import json
import os
import struct

import torch
from torch import nn

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "torch")


def save(name, tensors):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for key, t in tensors.items():
        raw = t.detach().contiguous().numpy().tobytes()
        header[key] = {"dtype": {torch.float32: "F32", torch.int64: "I64"}[t.dtype], "shape": list(t.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(HERE, name + ".safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def write(name, model, x, to_last=None):
    model.eval()
    with torch.no_grad():
        y = model(x)
    save(name, model.state_dict())
    save(name + ".io", {"x": x.permute(to_last) if to_last else x, "y": y})


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(3, 4, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(8, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, x):
        return self.head(self.gru(self.rnn(x)[0])[0][:, -1])


torch.manual_seed(1)
os.makedirs(HERE, exist_ok=True)
write("mlp", nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.LayerNorm(5), nn.Linear(5, 3)), torch.randn(4, 6))
cnn = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3, groups=4, padding=1), nn.MaxPool2d(2), nn.ConvTranspose2d(8, 3, 2, stride=2),
                    nn.Flatten(), nn.BatchNorm1d(3 * 6 * 4), nn.Linear(3 * 6 * 4, 5))
for m in cnn:
    if isinstance(m, (nn.BatchNorm2d, nn.BatchNorm1d)):
        with torch.no_grad():
            m.running_mean.normal_()
            m.running_var.uniform_(0.5, 2)
            m.weight.uniform_(0.5, 2)
            m.bias.normal_()
write("cnn", cnn, torch.randn(2, 3, 8, 6), (0, 2, 3, 1))
write("rnn", Recurrent(), torch.randn(3, 7, 3))
