#!/usr/bin/env python3
"""Writes tests/golden/optim.lua: steps of PyTorch's optimizers in doubles. `lbfgs` is on Rosenbrock's function of four numbers, in two parameters;
`rules` on the loss sum((A w - b)^2) / 2 of w, the elements of a row u and a matrix v one after another. Run it again only when a case is added:
python3 tests/golden/make_optim.py > tests/golden/optim.lua"""
import math

import torch

torch.set_default_dtype(torch.float64)  # ASGD keeps its rate in it
cases = [dict(lr=0.02, max_iter=3), dict(lr=0.1, max_iter=2, history_size=2), dict(lr=0.5, max_iter=20, max_eval=7)]
print("-- Written by make_optim.py with PyTorch %s: lbfgs: { options, loss and numbers after each of 20 steps };\n-- rules: { class, options, { [steps] = u and v } }." % torch.__version__)
print("return { lbfgs = {")
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
print("}, rules = {")

# ---- rules: our options; PyTorch's class and options; what else makes PyTorch's the same
size = 7
A = torch.tensor([[(2.0 if i == j else 0) + math.sin(3 * i + 5 * j + 1) / 2 for j in range(size)] for i in range(size)], dtype=torch.float64)
b = torch.tensor([math.cos(2 * i) for i in range(size)], dtype=torch.float64)
tiny = 1e-14  # where PyTorch adds epsilon to the root and Keras under it
O = torch.optim
rules = [
    ("SGD", "lr = 0.05", O.SGD, dict(lr=0.05)),
    ("SGD", "lr = 0.02, momentum = 0.9", O.SGD, dict(lr=0.02, momentum=0.9)),
    ("SGD", "lr = 0.02, momentum = 0.9, nesterov = true", O.SGD, dict(lr=0.02, momentum=0.9, nesterov=True)),
    ("SGD", "lr = 0.02, momentum = 0.8, weight_decay = 0.1", O.SGD, dict(lr=0.02, momentum=0.8, weight_decay=0.1)),
    ("SGD", "lr = 0.05, momentum = 0.5, nesterov = true, weight_decay = 0.01", O.SGD, dict(lr=0.05, momentum=0.5, nesterov=True, weight_decay=0.01)),
    ("Adam", "", O.Adam, dict(lr=0.001, eps=1e-7)),
    ("Adam", "lr = 0.1, beta_1 = 0.8, beta_2 = 0.95, epsilon = 1e-3", O.Adam, dict(lr=0.1, betas=(0.8, 0.95), eps=1e-3)),
    ("Adam", "lr = 0.1, beta_2 = 0.7, amsgrad = true", O.Adam, dict(lr=0.1, betas=(0.9, 0.7), eps=1e-7, amsgrad=True)),
    ("Adam", "lr = 0.1, weight_decay = 0.2", O.AdamW, dict(lr=0.1, eps=1e-7, weight_decay=0.2)),
    ("AdamW", "", O.AdamW, dict(lr=0.001, eps=1e-7, weight_decay=0.004)),
    ("AdamW", "lr = 0.1, weight_decay = 0.1, amsgrad = true, beta_2 = 0.7", O.AdamW,
     dict(lr=0.1, betas=(0.9, 0.7), eps=1e-7, weight_decay=0.1, amsgrad=True)),
    ("Adamax", "lr = 0.05, epsilon = 1e-14", O.Adamax, dict(lr=0.05, eps=tiny)),
    ("RAdam", "lr = 0.1, beta_2 = 0.95", O.RAdam, dict(lr=0.1, betas=(0.9, 0.95), eps=1e-7)),
    ("RAdam", "lr = 0.05, epsilon = 1e-3", O.RAdam, dict(lr=0.05, eps=1e-3)),
    ("RMSprop", "lr = 0.02, epsilon = 1e-14", O.RMSprop, dict(lr=0.02, alpha=0.9, eps=tiny)),
    ("RMSprop", "lr = 0.01, rho = 0.8, momentum = 0.6, epsilon = 1e-14", O.RMSprop, dict(lr=0.01, alpha=0.8, momentum=0.6, eps=tiny)),
    ("RMSprop", "lr = 0.005, rho = 0.95, momentum = 0.5, centered = true, epsilon = 1e-14", O.RMSprop,
     dict(lr=0.005, alpha=0.95, momentum=0.5, centered=True, eps=tiny)),
    ("Adagrad", "lr = 0.2, initial_accumulator_value = 0.1, epsilon = 1e-14", O.Adagrad, dict(lr=0.2, initial_accumulator_value=0.1, eps=tiny)),
    ("Adadelta", "lr = 1, rho = 0.9, epsilon = 1e-4", O.Adadelta, dict(lr=1, rho=0.9, eps=1e-4)),
    ("ASGD", "lr = 0.05, lambd = 0.01, alpha = 0.6, t0 = 3", O.ASGD, dict(lr=0.05, lambd=0.01, alpha=0.6, t0=3)),
    ("Rprop", "lr = 0.03, eta_minus = 0.5, eta_plus = 1.25", O.Rprop, dict(lr=0.03, etas=(0.5, 1.25))),
]
kept = (1, 2, 5, 10, 20)
for name, ours, make, theirs in rules:
    u = torch.tensor([1.0, -2, 0.5], dtype=torch.float64, requires_grad=True)
    v = torch.tensor([[0.3, -0.7], [1.5, 2]], dtype=torch.float64, requires_grad=True)
    opt = make([u, v], **theirs)
    print('  { "%s", { %s }, {' % (name, ours))
    for t in range(1, 21):
        opt.zero_grad()
        w = torch.cat([u, v.reshape(-1)])
        (((A @ w - b) ** 2).sum() / 2).backward()
        opt.step()
        if t in kept:
            print("    [%d] = { %s }," % (t, ", ".join("%.13g" % x for x in u.tolist() + v.reshape(-1).tolist())))
    print("  } },")
print("} }")
