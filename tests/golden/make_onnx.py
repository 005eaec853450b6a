#!/usr/bin/python3
"""Write golden/onnx/*.onnx with torch.onnx.export (PyTorch 1.13), and NAME.io.safetensors with inputs x0, x1 and PyTorch's predictions y, for
onnx_files_spec.lua."""
import os

import torch
from torch import nn
from torch.nn import functional as F

import make_torch

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "onnx")
make_torch.HERE = HERE
os.makedirs(HERE, exist_ok=True)


def write(name, model, *xs, opset=13):
    model.eval()
    with torch.no_grad():
        y = model(*xs)
    torch.onnx.export(model, xs, os.path.join(HERE, name + ".onnx"), opset_version=opset, input_names=["x%d" % i for i in range(len(xs))],
                      output_names=["y"], dynamic_axes={"x0": {0: "n"}})
    make_torch.save(name + ".io", {**{"x%d" % i: x for i, x in enumerate(xs)}, "y": y})


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.n = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=2, dilation=2), nn.BatchNorm2d(4)
        self.up, self.head = nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1, output_padding=1), nn.Linear(2 * 4 * 4, 3)

    def forward(self, x):
        h = F.relu6(self.a(x))
        h = torch.cat([h, F.leaky_relu(self.n(self.b(h)), 0.1)], 1)[:, 1:5] * 0.5
        h = F.max_pool2d(F.pad(h, (1, 0, 0, 1)), 2) + F.adaptive_avg_pool2d(h, 1)
        h = F.avg_pool2d(self.up(h), 2)
        return F.softmax(self.head(h.flatten(1)), -1)


class Part(nn.Module):
    def forward(self, x):
        return x[:, 1:5]


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.l, self.g, self.h = nn.Embedding(9, 3), nn.LSTM(3, 4), nn.GRU(4, 5), nn.Linear(5, 2)

    def forward(self, ids):
        return self.h(self.g(self.l(self.e(ids).transpose(0, 1))[0])[0][-1])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.n, self.q, self.o = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x, mask):
        q, k, v = self.q(self.n(x)).chunk(3, -1)
        split = lambda t: t.reshape(t.shape[0], t.shape[1], 2, 4).transpose(1, 2)
        w = (split(q) @ split(k).transpose(-1, -2)) / 2 + mask.unsqueeze(0)
        h = (w.softmax(-1) @ split(v)).transpose(1, 2).flatten(2)
        return x + F.gelu(self.o(h)).clamp(-1, 1) - x.mean(-1, keepdim=True).expand_as(x)


torch.manual_seed(2)
write("mlp", nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Dropout(), nn.Linear(5, 3), nn.LogSoftmax(1)), torch.randn(4, 6))
write("old", nn.Sequential(nn.Linear(6, 5), nn.Hardtanh(), nn.ConstantPad1d((1, 0), 0.5), Part(), nn.Softmax(1)), torch.randn(4, 6), opset=9)
write("cnn", Block(), torch.randn(2, 3, 7, 7))
write("rnn", Recurrent(), torch.randint(0, 9, (3, 6)))
write("attention", Attention(), torch.randn(2, 5, 8), torch.randn(5, 5), opset=16)
