"""vision.lua's pipeline with PyTorch's DataLoader and PIL: decode, resize to 224 x 224, mirror, brightness, contrast, saturation and hue as torchvision
does them on PIL images; pictures a second for 0, 1 and 2 workers. usage: peer_vision.py file.jpg [files]"""
import io
import random
import sys
import time

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch.utils.data import DataLoader, Dataset

torch.set_num_threads(1)
data = open(sys.argv[1], "rb").read()
files = int(sys.argv[2]) if len(sys.argv) > 2 else 200


class Pictures(Dataset):
    def __len__(self):
        return files

    def __getitem__(self, i):
        x = Image.open(io.BytesIO(data)).convert("RGB").resize((224, 224), Image.BILINEAR)
        if random.random() < 0.5:
            x = x.transpose(Image.FLIP_LEFT_RIGHT)
        for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            x = enhance(x).enhance(random.uniform(0.8, 1.2))
        h, s, v = x.convert("HSV").split()
        turned = np.asarray(h) + np.uint8(int(random.uniform(-0.05, 0.05) * 255) % 256)
        return torch.from_numpy(np.array(Image.merge("HSV", (Image.fromarray(turned, "L"), s, v)).convert("RGB")))


for workers in (0, 1, 2):
    best = float("inf")
    for _ in range(3):
        loader = DataLoader(Pictures(), batch_size=None, num_workers=workers)
        start = time.perf_counter()
        assert sum(1 for _ in loader) == files
        best = min(best, time.perf_counter() - start)
    print("PyTorch DataLoader and PIL, %d workers %7.0f pictures/s" % (workers, files / best), flush=True)
