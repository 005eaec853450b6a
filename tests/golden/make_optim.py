#!/usr/bin/env python3
"""Writes tests/golden/optim.lua: steps of PyTorch's LBFGS in doubles, on Rosenbrock's function of four numbers, in two parameters. Run it again only when
a case is added: python3 tests/golden/make_optim.py > tests/golden/optim.lua"""
import torch

cases = [dict(lr=0.02, max_iter=3), dict(lr=0.1, max_iter=2, history_size=2), dict(lr=0.5, max_iter=20, max_eval=7)]
print("-- Written by make_optim.py with PyTorch %s: { options, loss and numbers after each of 20 steps }." % torch.__version__)
print("return {")
for o in cases:
    a = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([0.7, 0.3], dtype=torch.float64, requires_grad=True)
    opt = torch.optim.LBFGS([a, b], **o)

    def closure():
        opt.zero_grad()
        x = torch.cat([a, b])
        loss = (10 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()
        loss.backward()
        return loss
    print("  { options = { %s }, steps = {" % ", ".join("%s = %r" % kv for kv in o.items()))
    for _ in range(20):
        loss = opt.step(closure)
        print("    { %s }," % ", ".join("%.15g" % v for v in [loss.item()] + a.tolist() + b.tolist()))
    print("  } },")
print("}")
