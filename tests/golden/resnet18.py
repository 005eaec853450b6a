# Writes resnet18.h5 for applications_spec.lua: what PyTorch computes with a narrow ResNet-18 (written out here after He et al. 2015) whose weights
# follow a formula that the test repeats. Run by hand, needs torch and h5py: python3 resnet18.py
import h5py
import numpy as np
import torch
import torch.nn.functional as F

WIDTH, CLASSES = 4, 10


def values(name, shape, scale):
    k = sum(name.encode()) % 97
    n = int(np.prod(shape))
    return torch.tensor((np.sin(np.arange(1, n + 1) * 0.37 + k) * scale).reshape(shape), dtype=torch.float32)


def conv(x, name, cin, cout, size, stride):
    kernel = values(name, (size, size, cin, cout), (2 / (size * size * cin)) ** 0.5)
    return F.conv2d(x, kernel.permute(3, 2, 0, 1), stride=stride, padding=size // 2)


def norm(x, name, c):
    gamma, beta = 1 + values(name + "g", (c,), 0.3), values(name + "b", (c,), 0.2)
    mean, var = values(name + "m", (c,), 0.2), 1 + values(name + "v", (c,), 0.5)
    return F.batch_norm(x, mean, var, gamma, beta, training=False, eps=1e-5)


def block(x, cin, cout, stride, name):
    y = F.relu(norm(conv(x, name + "_1_conv", cin, cout, 3, stride), name + "_1_bn", cout))
    y = norm(conv(y, name + "_2_conv", cout, cout, 3, 1), name + "_2_bn", cout)
    if stride > 1 or cin != cout:
        x = norm(conv(x, name + "_0_conv", cin, cout, 1, stride), name + "_0_bn", cout)
    return F.relu(x + y)


images = torch.tensor(np.random.default_rng(1).normal(size=(2, 64, 64, 3)), dtype=torch.float32)
x = images.permute(0, 3, 1, 2)
x = F.relu(norm(conv(x, "conv1_conv", 3, WIDTH, 7, 2), "conv1_bn", WIDTH))
x = F.max_pool2d(x, 3, 2, 1)
channels = WIDTH
for stage in range(4):
    for i in range(2):
        x = block(x, channels, WIDTH << stage, 2 if stage > 0 and i == 0 else 1, f"conv{stage + 2}_block{i + 1}")
        channels = WIDTH << stage
features = x.permute(0, 2, 3, 1)
logits = x.mean((2, 3)) @ values("predictions", (channels, CLASSES), 1.0) + values("predictionsb", (CLASSES,), 1.0)
with h5py.File("resnet18.h5", "w") as f:
    for name, value in {"x": images, "features": features, "y": logits.softmax(1)}.items():
        f.create_dataset(name, data=value.contiguous().numpy())
