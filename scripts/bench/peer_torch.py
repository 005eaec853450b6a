"""The workloads of steps.lua and ops.lua in PyTorch, printed in the same form: what compare.sh runs beside ours.

usage: peer_torch.py [--device cuda] [threads] [--channels-last] [name ...]; NNLUA_BENCH_SECONDS is the time for each workload. With a device the
rows of large.lua are there too, calls are timed in groups of 20 ms with one wait at the end, and f32 products are f32 (no TF32).
"""
import math
import os
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

words = sys.argv[1:]
device = "cpu"
if "--device" in words:
    at = words.index("--device")
    device = words[at + 1]
    del words[at:at + 2]
options = [a for a in words if a.startswith("--")]
words = [a for a in words if not a.startswith("--")]
threads = int(words.pop(0)) if words and words[0].isdigit() else 2
torch.set_num_threads(threads)
torch.manual_seed(0)
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
if device != "cpu":
    if hasattr(torch, "set_default_device"):
        torch.set_default_device(device)
    else:
        torch.set_default_tensor_type(torch.cuda.FloatTensor)
wanted = set(words)
layout = torch.channels_last if "--channels-last" in options else torch.contiguous_format
seconds = float(os.environ.get("NNLUA_BENCH_SECONDS", 0))


def peak():
    if "NNLUA_BENCH_PEAK" not in os.environ:
        return ""
    with open("/proc/self/status") as f:
        return "  peak %d MB" % next(int(line.split()[1]) // 1024 for line in f if line.startswith("VmHWM"))


def bench(name, make, warm=5, budget=8.0):
    if __name__ != "__main__" or wanted and name not in wanted:  # losses_torch.py takes the networks only
        return
    step, times, calls = make(), [], 1
    for _ in range(warm):
        step()
    if device != "cpu":
        torch.cuda.synchronize()
        start = time.perf_counter()
        step()
        torch.cuda.synchronize()
        calls = max(1, min(200, math.ceil(0.02 / (time.perf_counter() - start))))
    stop = time.perf_counter() + (seconds or budget)
    while time.perf_counter() < stop and len(times) < 400:
        start = time.perf_counter()
        for _ in range(calls):
            step()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - start) / calls)
    times.sort()
    print("%-28s %9.5g ms/step  (min %.5g, n=%d)%s" % (name, times[len(times) // 2] * 1e3, times[0] * 1e3, len(times), peak()), flush=True)


def trainer(model, x, classes, opt=None):
    if x.dim() == 4:
        model, x = model.to(memory_format=layout), x.contiguous(memory_format=layout)
    model, x = model.to(device), x.to(device)
    y = torch.randint(0, classes, (x.numel() if x.dtype == torch.int64 else len(x),), device=device)
    opt = opt(model.parameters()) if opt else torch.optim.Adam(model.parameters(), 1e-3)

    def step():
        opt.zero_grad()
        F.cross_entropy(model(x), y).backward()
        opt.step()

    return step


def dense(*sizes):
    layers = []
    for a, b in zip(sizes, sizes[1:]):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def mnist():
    return nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25), nn.Flatten(),
                         nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10))


class LastOfLSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.out = nn.LSTM(28, 128, batch_first=True), nn.Linear(128, 10)

    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1])


class Block(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        conv = lambda a, k, s: nn.Conv2d(a, o, k, s, k // 2, bias=False)
        self.main = nn.Sequential(conv(i, 3, stride), nn.BatchNorm2d(o), nn.ReLU(), conv(o, 3, 1), nn.BatchNorm2d(o))
        self.side = nn.Sequential(conv(i, 1, stride), nn.BatchNorm2d(o)) if stride != 1 or i != o else nn.Identity()

    def forward(self, x):
        return F.relu(self.main(x) + self.side(x))


def resnet20():
    blocks, i = [], 16
    for o in (16, 32, 64):
        for _ in range(3):
            blocks.append(Block(i, o, 1 if i == o else 2))
            i = o
    return nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


class Attention(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(d, 3 * d), nn.Linear(d, d)

    def forward(self, x, mask):
        B, T, D = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        a = ((q @ k.transpose(-1, -2)) * (D // self.heads) ** -0.5).masked_fill(mask, float("-inf")).softmax(-1)
        return self.out((a @ v).transpose(1, 2).reshape(B, T, D))


class GPT(nn.Module):
    def __init__(self, V=65, d=128, heads=4, layers=4, T=64):
        super().__init__()
        self.e, self.p = nn.Embedding(V, d), nn.Parameter(torch.zeros(T, d))
        self.parts = nn.ModuleList(nn.ModuleList([
            nn.LayerNorm(d), Attention(d, heads), nn.LayerNorm(d), nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))]) for _ in range(layers))
        self.n, self.f = nn.LayerNorm(d), nn.Linear(d, V)
        self.register_buffer("mask", torch.ones(T, T, dtype=torch.bool).triu(1))

    def forward(self, ids):
        x = self.e(ids) + self.p
        for n1, attention, n2, mlp in self.parts:
            x = x + attention(n1(x), self.mask)
            x = x + mlp(n2(x))
        return self.f(self.n(x)).flatten(0, 1)


bench("mlp_784_128_10_b64", lambda: trainer(dense(784, 128, 10), torch.randn(64, 784), 10))
bench("mlp_784_512_512_10_b128", lambda: trainer(dense(784, 512, 512, 10), torch.randn(128, 784), 10))
bench("mnist_cnn_b64", lambda: trainer(mnist(), torch.randn(64, 1, 28, 28), 10))
bench("lstm_28x28_h128_b64", lambda: trainer(LastOfLSTM(), torch.randn(64, 28, 28), 10))
bench("resnet20_cifar_b64", lambda: trainer(resnet20(), torch.randn(64, 3, 32, 32), 10, lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=1e-4)), warm=2)
bench("chargpt_L4_d128_T64_b12", lambda: trainer(GPT(), torch.randint(0, 65, (12, 64)), 65))


def op(name, make):
    with torch.no_grad():
        bench(name, make, budget=3)


def flat(fn):
    def make():
        x, y, z = torch.randn(1 << 22), torch.randn(1 << 22), torch.randn(1 << 22)
        return lambda: fn(x, y, z)
    return make


def matmul():
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    return lambda: a @ b


def layer_norm():
    x, w, b = torch.randn(32768, 128), torch.ones(128), torch.zeros(128)
    return lambda: F.layer_norm(x, (128,), w, b)


def layer_norm_grad():
    x, w, b = torch.randn(32768, 128, requires_grad=True), torch.ones(128, requires_grad=True), torch.zeros(128, requires_grad=True)
    d = torch.randn(32768, 128)

    def step():
        with torch.enable_grad():
            return torch.autograd.grad(F.layer_norm(x, (128,), w, b), (x, w, b), d)

    return step


def conv():
    x, w = (t.contiguous(memory_format=layout) for t in (torch.randn(32, 64, 56, 56), torch.randn(64, 64, 3, 3)))
    return lambda: F.conv2d(x, w, padding=1)


def inference():
    model, x = mnist().eval().to(memory_format=layout), torch.randn(1, 1, 28, 28).contiguous(memory_format=layout)
    return lambda: model(x)


def add_64():
    s = torch.randn(64)
    return lambda: s + s


op("op_matmul_1024", matmul)
op("op_add_4M", flat(lambda x, y, z: x + y))
op("op_exp_4M", flat(lambda x, y, z: x.exp()))
op("op_sum_4M", flat(lambda x, y, z: x.sum()))
op("op_softmax_4096x1024", flat(lambda x, y, z: x.view(4096, 1024).softmax(-1)))
op("op_chain_4M", flat(lambda x, y, z: torch.relu(torch.tanh(x * y + z) * x - y)))
op("op_layernorm_32768x128", layer_norm)
op("op_layernorm_grad_32768x128", layer_norm_grad)
op("op_add_64_overhead", add_64)
op("op_conv3x3_32x64x56", conv)
op("infer_mnist_cnn_b1", inference)

# the rows of large.lua
elements, cols = int(os.environ.get("NNLUA_BENCH_MB", 256)) << 18, 1024
side = int(os.environ.get("NNLUA_BENCH_N", 4096))


def adam():
    p = nn.Parameter(torch.randn(elements))
    p.grad = torch.randn(elements)
    return torch.optim.Adam([p], 1e-3, foreach=True).step


def large(count, fn, *shape):
    def make():
        x = [torch.randn(*(shape or (elements,))) for _ in range(count)]
        return lambda: fn(*x)
    return make


def product(n, dtype):
    def make():
        a, b = torch.randn(n, n).to(dtype), torch.randn(n, n).to(dtype)
        return lambda: a @ b
    return make


if device != "cpu" or wanted:
    bench("large_adam", adam, budget=3)
    op("large_add", large(2, lambda x, y: x + y))
    op("large_exp", large(1, torch.exp))
    op("large_chain", large(3, lambda x, y, z: torch.relu(torch.tanh(x * y + z) * x - y)))
    op("large_sum", large(1, torch.sum))
    op("large_softmax", large(1, lambda x: x.softmax(-1), elements // cols, cols))
    op("large_layernorm", large(1, lambda x, w=torch.ones(cols), b=torch.zeros(cols): F.layer_norm(x, (cols,), w, b), elements // cols, cols))
    op("large_matmul_f32", product(side, torch.float32))
    op("large_matmul_f16", product(2 * side, torch.float16))
