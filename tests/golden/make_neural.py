#!/usr/bin/env python3
"""Writes tests/golden/neural.lua: inputs, results and gradients of neural operators as PyTorch computes them (in doubles), in our layout
(channels last, ids from 1). Run it again only when a case is added: python3 tests/golden/make_neural.py > tests/golden/neural.lua"""
import math
import numpy as np
import torch
import torch.nn.functional as F

torch.manual_seed(7)
cases = []


def to_lua(a):
    a = np.asarray(a.detach() if torch.is_tensor(a) else a)
    if a.dtype.kind == "f":
        numbers = ["%.7g" % v if math.isfinite(v) else ("0/0" if v != v else "%s1/0" % ("-" if v < 0 else "")) for v in a.reshape(-1)]
        kind = "f32"
    else:
        numbers, kind = [str(int(v)) for v in a.reshape(-1)], "bool" if a.dtype.kind == "b" else "i64"
    return "{%s,{%s},{%s}}" % ('"%s"' % kind, ",".join(map(str, a.shape)), ",".join(numbers))


def case(name, lua, f, nograd=(), **inputs):
    """lua: an expression over nn and the inputs' names. f: the same of torch tensors in our layout. Floats get gradients unless in nograd."""
    tensors, wanted = {}, []
    for key, v in inputs.items():
        t = v if torch.is_tensor(v) else torch.tensor(np.asarray(v))
        if t.is_floating_point():
            t = t.float().double()
            if key not in nograd:
                t.requires_grad_(True)
                wanted.append(key)
        tensors[key] = t
    out = f(**tensors)
    outs = list(out) if isinstance(out, (tuple, list)) else [out]
    lines = ["  {name=%s," % quote(name), "    call=%s," % quote(lua).replace("}, {w_ih", "},\\z\n      {w_ih"), "    inputs={%s}," % ", ".join("%s=%s" % (k, to_lua(v)) for k, v in tensors.items())]
    lines.append("    outputs={%s}," % ", ".join(to_lua(o) for o in outs))
    total, cots = 0, []
    for o in outs:
        if o.is_floating_point() and o.requires_grad:
            cot = torch.randn(o.shape).double() if o.dim() else torch.ones(()).double()
            cots.append(to_lua(cot))
            total = total + (torch.where(torch.isfinite(o), o, torch.zeros_like(o)) * cot).sum()
        else:
            cots.append("false")
    if wanted:
        grads = torch.autograd.grad(total, [tensors[k] for k in wanted], allow_unused=True)
        lines.append("    cotangents={%s}," % ", ".join(cots))
        lines.append("    grads={%s}," % ", ".join("%s=%s" % (k, to_lua(g)) for k, g in zip(wanted, grads) if g is not None))
    lines.append("  },")
    cases.append("\n".join(lines))


def quote(s):
    return '"' + s.replace("\\", "\\\\").replace('"', '\\"') + '"'


def first(x):  # channels last -> first
    return x.movedim(-1, 1)


def last(x):
    return x.movedim(1, -1)


def R(*shape):
    return torch.randn(*shape)


# ---- convolutions
def convolve(n, x, w, b, **o):
    f = [F.conv1d, F.conv2d, F.conv3d][n - 1]
    return last(f(first(x), w.movedim((-1, -2), (0, 1)), b, **o))


def transposed(n, x, w, b, **o):  # our kernel (..., out / groups, in) -> (in, out / groups, ...)
    f = [F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d][n - 1]
    return last(f(first(x), w.movedim((-1, -2), (0, 1)), b, **o))


case("conv1d", "nn.conv1d(x, w, b)", lambda x, w, b: convolve(1, x, w, b), x=R(2, 6, 3), w=R(3, 3, 2), b=R(2))
case("conv1d, options", "nn.conv1d(x, w, b, {stride=2, padding=2, dilation=2, groups=2})",
     lambda x, w, b: convolve(1, x, w, b, stride=2, padding=2, dilation=2, groups=2), x=R(2, 7, 4), w=R(3, 2, 4), b=R(4))
case("conv3d", "nn.conv3d(x, w, b)", lambda x, w, b: convolve(3, x, w, b), x=R(1, 3, 4, 3, 2), w=R(2, 2, 2, 2, 2), b=R(2))
case("conv3d, options", "nn.conv3d(x, w, {stride={2,1,2}, padding={1,2,0}, dilation={2,1,1}, groups=2})",
     lambda x, w: convolve(3, x, w, None, stride=(2, 1, 2), padding=(1, 2, 0), dilation=(2, 1, 1), groups=2), x=R(2, 5, 3, 4, 4), w=R(2, 2, 2, 2, 2))
case("conv_transpose1d", "nn.conv_transpose1d(x, w, b, {stride=2})", lambda x, w, b: transposed(1, x, w, b, stride=2), x=R(2, 4, 3), w=R(3, 2, 3), b=R(2))
case("conv_transpose1d, dilation above stride", "nn.conv_transpose1d(x, w, nil, 1, 1, 2, 1, 3)",
     lambda x, w: transposed(1, x, w, None, stride=1, padding=1, output_padding=2, dilation=3), x=R(1, 4, 2), w=R(2, 2, 2))
case("conv_transpose2d, options", "nn.conv_transpose2d(x, w, b, {stride={2,3}, padding=1, output_padding={1,2}, groups=2, dilation={1,2}})",
     lambda x, w, b: transposed(2, x, w, b, stride=(2, 3), padding=1, output_padding=(1, 2), groups=2, dilation=(1, 2)), x=R(2, 3, 2, 4), w=R(3, 2, 1, 4), b=R(2))
case("conv_transpose3d", "nn.conv_transpose3d(x, w, b)", lambda x, w, b: transposed(3, x, w, b), x=R(1, 2, 2, 3, 2), w=R(2, 2, 2, 3, 2), b=R(3))
case("conv_transpose3d, options", "nn.conv_transpose3d(x, w, nil, {stride={2,1,2}, padding={1,0,1}, output_padding={1,0,1}, groups=2, dilation={1,2,1}})",
     lambda x, w: transposed(3, x, w, None, stride=(2, 1, 2), padding=(1, 0, 1), output_padding=(1, 0, 1), groups=2, dilation=(1, 2, 1)),
     x=R(1, 3, 2, 2, 4), w=R(3, 2, 2, 1, 4))

# ---- pooling
case("avg_pool1d", "nn.avg_pool1d(x, 3, 2, {padding=1})", lambda x: last(F.avg_pool1d(first(x), 3, 2, 1)), x=R(2, 8, 2))
case("avg_pool2d", "nn.avg_pool2d(x, 2)", lambda x: last(F.avg_pool2d(first(x), 2)), x=R(2, 4, 5, 2))
for include in (True, False):
    for ceil in (True, False):
        case("avg_pool2d, include %s, ceil %s" % (include, ceil),
             "nn.avg_pool2d(x, {3,2}, 2, 1, {count_include_pad=%s, ceil_mode=%s})" % (str(include).lower(), str(ceil).lower()),
             lambda x: last(F.avg_pool2d(first(x), (3, 2), 2, 1, ceil, include)), x=R(1, 6, 5, 2))
case("avg_pool2d, divisor", "nn.avg_pool2d(x, 2, {divisor_override=3})", lambda x: last(F.avg_pool2d(first(x), 2, divisor_override=3)), x=R(1, 4, 4, 2))
case("avg_pool3d, ceil", "nn.avg_pool3d(x, 2, {ceil_mode=true})", lambda x: last(F.avg_pool3d(first(x), 2, ceil_mode=True)), x=R(1, 3, 4, 5, 1))
case("avg_pool1d, side by side", "nn.avg_pool1d(x, 6)", lambda x: last(F.avg_pool1d(first(x), 6)), x=R(2, 12, 2))


def pool_indices(f, x, *a, **o):
    y, i = f(first(x), *a, return_indices=True, **o)
    return last(y), last(i) + 1


for n, shape in ((1, (2, 7, 2)), (2, (2, 5, 6, 2)), (3, (1, 4, 5, 4, 2))):
    f = [F.max_pool1d, F.max_pool2d, F.max_pool3d][n - 1]
    case("max_pool%dd" % n, "nn.max_pool%dd(x, 2)" % n, lambda x: last(f(first(x), 2)), x=R(*shape))
    case("max_pool%dd, overlap and ceil" % n, "nn.max_pool%dd(x, 3, 2, 1, {ceil_mode=true})" % n, lambda x: last(f(first(x), 3, 2, 1, ceil_mode=True)), x=R(*shape))
    case("max_pool%dd, dilation" % n, "nn.max_pool%dd(x, 2, {stride=1, dilation=2})" % n, lambda x: last(f(first(x), 2, 1, dilation=2)), x=R(*shape))
    case("max_pool%dd, indices" % n, "nn.max_pool%dd(x, 3, 2, 1, {return_indices=true})" % n, lambda x: pool_indices(f, x, 3, 2, 1), x=R(*shape))
    case("max_pool%dd, ties" % n, "nn.max_pool%dd(x, 2, {return_indices=true})" % n, lambda x: pool_indices(f, x, 2), x=torch.randint(0, 2, shape).float())
    a = [F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d][n - 1]
    m = [F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d][n - 1]
    case("adaptive_avg_pool%dd" % n, "nn.adaptive_avg_pool%dd(x, 3)" % n, lambda x: last(a(first(x), 3)), x=R(*shape))
    case("adaptive_max_pool%dd" % n, "nn.adaptive_max_pool%dd(x, 3, true)" % n, lambda x: pool_indices(m, x, 3), x=R(*shape))
    u = [F.max_unpool1d, F.max_unpool2d, F.max_unpool3d][n - 1]
    y, i = f(first(R(*((2, 6, 2), (2, 4, 6, 2), (1, 4, 4, 2, 2))[n - 1])), 2, return_indices=True)
    case("max_unpool%dd" % n, "nn.max_unpool%dd(x, ids, 2)" % n, lambda x, ids: last(u(first(x), first(ids) - 1, 2)), x=last(y), ids=last(i) + 1)
y, i = F.max_pool2d(first(R(1, 5, 5, 2)), 2, return_indices=True)
case("max_unpool2d, output_size", "nn.max_unpool2d(x, ids, 2, {output_size={5,5}})", lambda x, ids: last(F.max_unpool2d(first(x), first(ids) - 1, 2, output_size=(5, 5))),
     x=last(y), ids=last(i) + 1)

# ---- normalization
case("layer_norm", "nn.layer_norm(x, {4}, w, b)", lambda x, w, b: F.layer_norm(x, (4,), w, b), x=R(3, 2, 4), w=R(4), b=R(4))
case("layer_norm, two dims", "nn.layer_norm(x, {3,4}, w, nil, 1e-3)", lambda x, w: F.layer_norm(x, (3, 4), w, None, 1e-3), x=R(2, 3, 4), w=R(3, 4))
case("rms_norm", "nn.rms_norm(x, {5}, w)", lambda x, w: x * torch.rsqrt(x.square().mean(-1, True) + 1e-5) * w, x=R(3, 5), w=R(5))
case("batch_norm, training", "nn.batch_norm(x, nil, nil, w, b, true)", lambda x, w, b: last(F.batch_norm(first(x), None, None, w, b, True)), x=R(3, 2, 2, 3), w=R(3), b=R(3))


def running(norm, x, mean, var, **o):
    m, v = mean.detach().clone(), var.detach().clone()
    y = last(norm(first(x), m, v, **o))
    return y, m, v


case("batch_norm, running statistics", "(function() local y = nn.batch_norm(x, mean, var, {training=true, momentum=0.3}) return y, mean, var end)()",
     lambda x, mean, var: running(F.batch_norm, x, mean, var, training=True, momentum=0.3), nograd=("mean", "var"), x=R(4, 2, 3), mean=R(3), var=R(3).exp())
case("batch_norm, inference", "nn.batch_norm(x, mean, var, w, b)", lambda x, mean, var, w, b: last(F.batch_norm(first(x), mean.detach(), var.detach(), w, b)),
     nograd=("mean", "var"), x=R(4, 3), mean=R(3), var=R(3).exp(), w=R(3), b=R(3))
case("group_norm", "nn.group_norm(x, 2, w, b)", lambda x, w, b: last(F.group_norm(first(x), 2, w, b)), x=R(2, 3, 2, 4), w=R(4), b=R(4))
case("instance_norm", "nn.instance_norm(x, {weight=w, bias=b})", lambda x, w, b: last(F.instance_norm(first(x), weight=w, bias=b)), x=R(2, 3, 2, 3), w=R(3), b=R(3))
case("instance_norm, running statistics", "(function() local y = nn.instance_norm(x, mean, var) return y, mean, var end)()",
     lambda x, mean, var: running(F.instance_norm, x, mean, var), nograd=("mean", "var"), x=R(2, 4, 3), mean=R(3), var=R(3).exp())
case("local_response_norm", "nn.local_response_norm(x, 4, 0.5, 0.75, 2)", lambda x: last(F.local_response_norm(first(x), 4, 0.5, 0.75, 2)), x=R(2, 3, 6))
case("normalize", "nn.normalize(x, 3, 1)", lambda x: F.normalize(x, 3, 0), x=R(3, 4))

# ---- embedding, attention
ids = torch.tensor([[1, 3, 3], [5, 2, 1]])
case("embedding", "nn.embedding(ids, w)", lambda ids, w: F.embedding(ids - 1, w), ids=ids, w=R(5, 3))
case("embedding, padding", "nn.embedding(ids, w, 3)", lambda ids, w: F.embedding(ids - 1, w, 2), ids=ids, w=R(5, 3))
for mode in ("sum", "mean", "max"):
    case("embedding_bag, " + mode, "nn.embedding_bag(ids, w, nil, '%s')" % mode, lambda ids, w: F.embedding_bag(ids - 1, w, mode=mode), ids=ids, w=R(5, 3))
    case("embedding_bag with offsets, " + mode, "nn.embedding_bag(ids, w, starts, '%s')" % mode,
         lambda ids, w, starts: F.embedding_bag(ids - 1, w, starts - 1, mode=mode), ids=torch.tensor([1, 3, 3, 5, 2, 1]), w=R(5, 3), starts=torch.tensor([1, 3, 3, 4]))
    case("embedding_bag, padding, " + mode, "nn.embedding_bag(ids, w, nil, '%s', nil, 3)" % mode,
         lambda ids, w: F.embedding_bag(ids - 1, w, mode=mode, padding_idx=2), ids=torch.tensor([[1, 3, 3], [5, 2, 3]]), w=R(5, 3))
case("embedding_bag, weighted", "nn.embedding_bag(ids, w, {mode='sum', per_sample_weights=p})",
     lambda ids, w, p: F.embedding_bag(ids - 1, w, mode="sum", per_sample_weights=p), ids=ids, w=R(5, 3), p=R(2, 3))


def attend(q, k, v, mask=None, causal=False, scale=None):
    s = q @ k.transpose(-2, -1) * (scale or 1 / math.sqrt(q.shape[-1]))
    if causal:
        s = s.masked_fill(torch.ones(s.shape[-2:]).tril() == 0, -math.inf)
    if mask is not None:
        s = s.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else s + mask
    return s.softmax(-1) @ v


case("attention", "nn.scaled_dot_product_attention(q, k, v)", attend, q=R(2, 2, 3, 4), k=R(2, 2, 5, 4), v=R(2, 2, 5, 3))
case("attention, causal", "nn.scaled_dot_product_attention(q, k, v, {causal=true, scale=0.3})", lambda q, k, v: attend(q, k, v, None, True, 0.3),
     q=R(2, 4, 3), k=R(2, 4, 3), v=R(2, 4, 2))
case("attention, mask", "nn.scaled_dot_product_attention(q, k, v, mask)", attend, q=R(2, 3, 4), k=R(2, 4, 4), v=R(2, 4, 2),
     mask=torch.tensor([[1, 0, 1, 0], [1, 1, 1, 1], [0, 0, 0, 1]]) == 1)
case("attention, added mask", "nn.scaled_dot_product_attention(q, k, v, mask)", attend, q=R(2, 3, 4), k=R(2, 4, 4), v=R(2, 4, 2), mask=R(3, 4))

# ---- resampling
for mode, shape, sizes in (("linear", (1, 5, 2), (8, 3)), ("bilinear", (1, 3, 4, 2), ((5, 7), (2, 2))), ("trilinear", (1, 2, 3, 2, 1), ((3, 4, 5),)),
                           ("bicubic", (1, 4, 5, 1), ((6, 8), (3, 2)))):
    for align in (False, True):
        for size in sizes:
            text = "{%s}" % ",".join(map(str, size)) if isinstance(size, tuple) else size
            case("interpolate %s to %s, align %s" % (mode, text, align), "nn.interpolate(x, {size=%s, mode='%s', align_corners=%s})" % (text, mode, str(align).lower()),
                 lambda x: last(F.interpolate(first(x), size, mode=mode, align_corners=align)), x=R(*shape))
    case("interpolate %s by scale" % mode, "nn.interpolate(x, {scale=1.7, mode='%s'})" % mode,
         lambda x: last(F.interpolate(first(x), scale_factor=1.7, mode=mode, align_corners=False)), x=R(*shape))
for mode in ("nearest", "nearest-exact", "area"):
    case("interpolate %s" % mode, "nn.interpolate(x, {size={5,3}, mode='%s'})" % mode, lambda x: last(F.interpolate(first(x), (5, 3), mode=mode)), x=R(1, 3, 4, 2))
    case("interpolate %s by scale" % mode, "nn.interpolate(x, {scale=2, mode='%s'})" % mode, lambda x: last(F.interpolate(first(x), scale_factor=2, mode=mode)), x=R(1, 2, 3, 1))
for mode in ("bilinear", "nearest", "bicubic"):
    for padding in ("zeros", "border", "reflection"):
        for align in (False, True):
            case("grid_sample %s, %s, align %s" % (mode, padding, align), "nn.grid_sample(x, g, {mode='%s', padding='%s', align_corners=%s})" % (mode, padding, str(align).lower()),
                 lambda x, g: last(F.grid_sample(first(x), g, mode, padding, align)), x=R(2, 3, 4, 2), g=R(2, 2, 3, 2) * 0.9)
case("pixel_shuffle", "nn.pixel_shuffle(x, 2)", lambda x: last(F.pixel_shuffle(first(x), 2)), x=R(1, 2, 3, 8))
case("pixel_unshuffle", "nn.pixel_unshuffle(x, 2)", lambda x: last(F.pixel_unshuffle(first(x), 2)), x=R(1, 4, 6, 2))

# ---- recurrent
H, C = 2, 3


def network(kind, layers, directions, gates, state, cell, **o):
    """Our call and torch's: weights arrive transposed, one set per layer and direction."""
    inputs, tables = {"x": R(2, 3, C)}, []
    for k in range(layers * directions):
        c = C if k < directions else H * directions
        inputs.update({"wi%d" % k: R(c, gates * H), "wh%d" % k: R(H, gates * H), "bi%d" % k: R(gates * H), "bh%d" % k: R(gates * H)})
        tables.append("{w_ih=wi%d, w_hh=wh%d, b_ih=bi%d, b_hh=bh%d}" % (k, k, k, k))
    if state:
        inputs["h"] = R(layers * directions, 2, H)
        if cell:
            inputs["c"] = R(layers * directions, 2, H)
    text = ("{h, c}" if cell else "h") if state else "nil"
    lua = "nn.%s(x, {%s}, %s, {bidirectional=%s%s})" % (kind, ", ".join(tables), text, "true" if directions == 2 else "false",
                                                        ", activation='relu'" if o.get("nonlinearity") == "relu" else "")

    def f(**t):
        net = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[kind](C, H, layers, batch_first=True, bidirectional=directions == 2, **o).double()
        weights = {}
        for k in range(layers * directions):
            tail = "_l%d%s" % (k // directions, "_reverse" if k % directions else "")
            for ours, theirs in (("wi", "weight_ih"), ("wh", "weight_hh"), ("bi", "bias_ih"), ("bh", "bias_hh")):
                weights[theirs + tail] = t["%s%d" % (ours, k)].t() if ours[0] == "w" else t["%s%d" % (ours, k)]
        flat = [weights[n] for n in net._flat_weights_names]
        zero = torch.zeros(layers * directions, 2, H).double()
        h = t.get("h", zero)
        two = directions == 2
        if kind == "lstm":
            return torch.lstm(t["x"], (h, t.get("c", zero)), flat, True, layers, 0.0, False, two, True)
        g = torch.gru if kind == "gru" else torch.rnn_relu if o.get("nonlinearity") == "relu" else torch.rnn_tanh
        return g(t["x"], h, flat, True, layers, 0.0, False, two, True)

    case("%s, %d layers, %d directions%s" % (kind, layers, directions, ", state" if state else ""), lua, f, **inputs)


for kind, gates in (("lstm", 4), ("gru", 3), ("rnn", 1)):
    network(kind, 1, 1, gates, False, kind == "lstm")
    network(kind, 2, 2, gates, True, kind == "lstm")
network("rnn", 1, 1, 1, True, False, nonlinearity="relu")

# ---- losses
for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "soft_margin_loss", "hinge_embedding_loss", "poisson_nll_loss"):
    f = getattr(F, name)
    sign = "margin" in name or "hinge" in name
    for reduction in ("mean", "none"):
        t = torch.randint(0, 2, (3, 2)) * 2.0 - 1 if sign else R(3, 2).abs() * 3 if "poisson" in name else R(3, 2)
        case("%s, %s" % (name, reduction), "nn.%s(x, t, {reduction='%s'})" % (name, reduction), lambda x, t: f(x, t, reduction=reduction), x=R(3, 2), t=t,
             nograd=("t",) if sign or "poisson" in name else ())
case("smooth_l1_loss, beta", "nn.smooth_l1_loss(x, t, 0.3, 'sum')", lambda x, t: F.smooth_l1_loss(x, t, beta=0.3, reduction="sum"), x=R(3, 2), t=R(3, 2))
case("huber_loss, delta", "nn.huber_loss(x, t, 0.3, 'sum')", lambda x, t: F.huber_loss(x, t, delta=0.3, reduction="sum"), x=R(3, 2), t=R(3, 2))
case("poisson_nll_loss, full", "nn.poisson_nll_loss(x, t, {log_input=false, full=true})", lambda x, t: F.poisson_nll_loss(x, t, False, True), nograd=("t",), x=R(3, 2).exp(),
     t=torch.tensor([[0, 1], [2, 5], [1.0, 9]]))
case("gaussian_nll_loss", "nn.gaussian_nll_loss(x, t, v)", lambda x, t, v: F.gaussian_nll_loss(x, t, v), x=R(3, 2), t=R(3, 2), v=R(3, 2).exp())
case("gaussian_nll_loss, full", "nn.gaussian_nll_loss(x, t, v, {full=true, reduction='none', eps=0.5})", lambda x, t, v: F.gaussian_nll_loss(x, t, v, full=True, eps=0.5, reduction="none"),
     x=R(3, 2), t=R(3, 2), v=torch.tensor([[0.1, 1], [0.7, 0.5], [2, 0.2]]))
at = torch.tensor([2, 4, 1, 4])
for reduction in ("mean", "sum", "none"):
    case("cross_entropy, weights, smoothing, ignore, " + reduction, "nn.cross_entropy(x, ids, w, {ignore_id=1, label_smoothing=0.2, reduction='%s'})" % reduction,
         lambda x, ids, w: F.cross_entropy(x, ids - 1, w.detach(), ignore_index=0, label_smoothing=0.2, reduction=reduction), nograd=("w",), x=R(4, 5), ids=at, w=R(5).exp())
    case("nll_loss, weights, ignore, " + reduction, "nn.nll_loss(x, ids, w, {ignore_id=4, reduction='%s'})" % reduction,
         lambda x, ids, w: F.nll_loss(x, ids - 1, w.detach(), ignore_index=3, reduction=reduction), nograd=("w",), x=R(4, 5), ids=at, w=R(5).exp())
case("cross_entropy, images", "nn.cross_entropy(x, ids, {label_smoothing=0.1})", lambda x, ids: F.cross_entropy(first(x), ids - 1, label_smoothing=0.1), x=R(2, 2, 3, 4),
     ids=torch.randint(1, 5, (2, 2, 3)))
case("cross_entropy, ids", "nn.cross_entropy(x, ids)", lambda x, ids: F.cross_entropy(x, ids - 1), x=R(4, 5), ids=at)
case("cross_entropy, probabilities", "nn.cross_entropy(x, t, w, {label_smoothing=0.3})", lambda x, t, w: F.cross_entropy(x, t, w.detach(), label_smoothing=0.3), nograd=("w",), x=R(4, 5),
     t=R(4, 5).softmax(-1), w=R(5).exp())
case("binary_cross_entropy", "nn.binary_cross_entropy(x, t, w)", lambda x, t, w: F.binary_cross_entropy(x, t, w.detach()), nograd=("w", "t"), x=R(3, 2).sigmoid(), t=R(3, 2).sigmoid(), w=R(3, 2).exp())
case("binary_cross_entropy, edges", "nn.binary_cross_entropy(x, t, {reduction='none'})", lambda x, t: F.binary_cross_entropy(x.detach(), t, reduction="none"), nograd=("x", "t"),
     x=torch.tensor([0.0, 1, 0, 1]), t=torch.tensor([0.0, 0, 1, 1]))
case("binary_cross_entropy_with_logits", "nn.binary_cross_entropy_with_logits(x, t, w, p)",
     lambda x, t, w, p: F.binary_cross_entropy_with_logits(x, t, w.detach(), pos_weight=p.detach()), nograd=("w", "p", "t"),
     x=torch.tensor([[0.0, 90], [-90, 1], [2, -3]]), t=R(3, 2).sigmoid(), w=R(3, 2).exp(), p=R(2).exp())
case("kl_div", "nn.kl_div(x, t, 'batchmean')", lambda x, t: F.kl_div(x, t, reduction="batchmean"), nograd=("t",), x=R(3, 4).log_softmax(-1), t=torch.tensor([[0, 0.5, 0.5, 0]] * 3))
case("kl_div, log_target", "nn.kl_div(x, t, {log_target=true, reduction='none'})", lambda x, t: F.kl_div(x, t, log_target=True, reduction="none"), x=R(3, 4).log_softmax(-1), t=R(3, 4).log_softmax(-1))
case("multi_margin_loss", "nn.multi_margin_loss(x, ids, 2, 0.7, w)", lambda x, ids, w: F.multi_margin_loss(x, ids - 1, 2, 0.7, w.detach()), nograd=("w",), x=R(4, 5), ids=at, w=R(5).exp())
case("multilabel_soft_margin_loss", "nn.multilabel_soft_margin_loss(x, t, w)", lambda x, t, w: F.multilabel_soft_margin_loss(x, t, w.detach()), nograd=("w", "t"), x=R(3, 4),
     t=torch.randint(0, 2, (3, 4)).float(), w=R(4).exp())
case("margin_ranking_loss", "nn.margin_ranking_loss(a, b, t, 0.3)", lambda a, b, t: F.margin_ranking_loss(a, b, t, 0.3), nograd=("t",), a=R(5), b=R(5), t=torch.tensor([1.0, -1, 1, -1, 1]))
case("triplet_margin_loss", "nn.triplet_margin_loss(a, p, n, {swap=true, p=3})", lambda a, p, n: F.triplet_margin_loss(a, p, n, swap=True, p=3), a=R(3, 4), p=R(3, 4), n=R(3, 4))
case("pairwise_distance", "nn.pairwise_distance(a, b, 1, {keepdim=true})", lambda a, b: F.pairwise_distance(a, b, 1, keepdim=True), a=R(3, 4), b=R(3, 4))
case("cosine_similarity", "nn.cosine_similarity(a, b, 1)", lambda a, b: F.cosine_similarity(a, b, 0), a=R(3, 4), b=R(3, 4))
case("cosine_embedding_loss", "nn.cosine_embedding_loss(a, b, t, 0.1)", lambda a, b, t: F.cosine_embedding_loss(a, b, t, 0.1), nograd=("t",), a=R(4, 3), b=R(4, 3), t=torch.tensor([1.0, -1, 1, -1]))
labels = torch.tensor([[2, 2, 3], [3, 2, 4], [4, 1, 1]])
for reduction in ("mean", "none"):
    case("ctc_loss, " + reduction, "nn.ctc_loss(nn.log_softmax(x), t, {6, 5, 4}, {3, 2, 1}, {reduction='%s'})" % reduction,
         lambda x, t: F.ctc_loss(x.log_softmax(-1).transpose(0, 1), t - 1, torch.tensor([6, 5, 4]), torch.tensor([3, 2, 1]), reduction=reduction), x=R(3, 6, 4), t=labels)

case("multilabel_margin_loss", "nn.multilabel_margin_loss(x, ids, 'none')", lambda x, ids: F.multilabel_margin_loss(x, ids - 1, reduction="none"), x=R(3, 4),
     ids=torch.tensor([[2, 4, 0, 3], [1, 2, 3, 0], [3, 0, 1, 1]]))

# ---- found by comparing with PyTorch on random options (added at the end: what is above keeps its random numbers)
for mode in ("bilinear", "nearest"):
    for padding in ("zeros", "border", "reflection"):
        align = padding != "border"
        case("grid_sample of volumes, %s, %s" % (mode, padding), "nn.grid_sample(x, g, {mode='%s', padding='%s', align_corners=%s})" % (mode, padding, str(align).lower()),
             lambda x, g: last(F.grid_sample(first(x), g, mode, padding, align)), x=R(1, 2, 3, 4, 2), g=R(1, 2, 1, 3, 3) * 0.9)
case("max_pool3d, ceil, a dilated window larger than the input", "nn.max_pool3d(x, {2,2,1}, {stride={3,2,2}, dilation={3,1,1}, ceil_mode=true, return_indices=true})",
     lambda x: pool_indices(F.max_pool3d, x, (2, 2, 1), (3, 2, 2), 0, (3, 1, 1), True), x=R(1, 3, 3, 4, 2))
case("interpolate bilinear by a scale that keeps the size", "nn.interpolate(x, {scale={1.6,1.2}, mode='bilinear'})",
     lambda x: last(F.interpolate(first(x).contiguous(), scale_factor=(1.6, 1.2), mode="bilinear", align_corners=False)), x=R(1, 4, 3, 2))

# ---- what PyTorch has in another form only: resizing by other coordinates as one dense matrix per axis, recurrent cells written out
def kernel(mode, d, a):
    d = abs(d)
    if mode == "linear":
        return max(0.0, 1 - d)
    return (a + 2) * d ** 3 - (a + 3) * d ** 2 + 1 if d <= 1 else a * d ** 3 - 5 * a * d ** 2 + 8 * a * d - 4 * a if d < 2 else 0.0


def axis(n, out, mode, place, a=-0.75, exclude=False, fill=False):
    """(out, n) weights, and where `place` is outside (fill)"""
    w, outside = np.zeros((out, n)), np.zeros(out, bool)
    for o in range(out):
        at = place(o)
        outside[o] = fill and not 0 <= at <= n - 1
        for i in range(-9, n + 9):
            k = kernel(mode, at - i, a)
            if not exclude or 0 <= i < n:
                w[o, min(max(i, 0), n - 1)] += k
        w[o] /= w[o].sum()
    return torch.tensor(w), torch.tensor(outside)


def resize(x, axes, fill=0.0):
    """x (N, H, W, C)"""
    (rows, above), (cols, aside) = axes
    y = torch.einsum("oh,nhwc,pw->nopc", rows, x, cols)
    return torch.where((above[:, None] | aside[None, :])[None, :, :, None], torch.tensor(fill).double(), y)


def half(n, out):
    return lambda o: (o + 0.5) * n / out - 0.5


for exclude in (False, True):
    case("interpolate bicubic, a = -0.5, exclude_outside %s" % exclude,
         "nn.interpolate(x, {size={7,2}, mode='bicubic', cubic_a=-0.5, exclude_outside=%s})" % str(exclude).lower(),
         lambda x: resize(x, [axis(4, 7, "cubic", half(4, 7), -0.5, exclude), axis(5, 2, "cubic", half(5, 2), -0.5, exclude)]), x=R(1, 4, 5, 1))
for mode in ("bilinear", "bicubic"):
    case("interpolate %s, asymmetric" % mode, "nn.interpolate(x, {size={7,2}, mode='%s', coordinates='asymmetric'})" % mode,
         lambda x: resize(x, [axis(4, 7, mode[2:], lambda o: o * 4 / 7), axis(5, 2, mode[2:], lambda o: o * 5 / 2)]), x=R(2, 4, 5, 1))
    case("interpolate %s, box" % mode, "nn.interpolate(x, {size={6,1}, mode='%s', box={0.1,1.3,0.9,0.4}, fill=7})" % mode,
         lambda x: resize(x, [axis(4, 6, mode[2:], lambda o: (0.1 + o * 1.2 / 5) * 3, fill=True), axis(5, 1, mode[2:], lambda o: 0.65 * 4, fill=True)], 7.0), x=R(1, 4, 5, 2))
case("interpolate bilinear, align_corners by name", "nn.interpolate(x, {size={5,7}, mode='bilinear', coordinates='align_corners'})",
     lambda x: last(F.interpolate(first(x), (5, 7), mode="bilinear", align_corners=True)), x=R(1, 3, 4, 2))
for rounding, f in (("floor", math.floor), ("ceil", math.ceil), ("half_up", lambda v: math.floor(v + 0.5)), ("half_down", lambda v: math.ceil(v - 0.5))):
    for coordinates, place in (("half_pixel", half), ("asymmetric", lambda n, out: lambda o: o * n / out), ("align_corners", lambda n, out: lambda o: o * (n - 1) / (out - 1))):
        def pick(n, out):
            return [min(max(f(place(n, out)(o)), 0), n - 1) for o in range(out)]
        case("interpolate nearest, %s, %s" % (coordinates, rounding), "nn.interpolate(x, {size={8,6}, coordinates='%s', rounding='%s'})" % (coordinates, rounding),
             lambda x: x[:, pick(4, 8)][:, :, pick(3, 6)], x=R(1, 4, 3, 1))


def shuffled(x, r):  # channels (i * r + j) * C + c to PyTorch's c * r * r + i * r + j
    c = x.shape[-1] // (r * r)
    return last(F.pixel_shuffle(first(x)[:, [(k % (r * r)) * c + k // (r * r) for k in range(c * r * r)]], r))


case("pixel_shuffle, dcr", "nn.pixel_shuffle(x, 2, 'dcr')", lambda x: shuffled(x, 2), x=R(1, 2, 3, 8))
case("pixel_unshuffle, dcr", "nn.pixel_unshuffle(nn.pixel_shuffle(x, 2, 'dcr'), 2, {order='dcr'})", lambda x: x * 1, x=R(1, 2, 3, 12))


def reset_before(x, h, wi, wh, bi, bh):
    ys = []
    for t in range(x.shape[1]):
        (xr, xz, xn), (hr, hz, hn) = (x[:, t] @ wi + bi).chunk(3, 1), wh.chunk(3, 1)
        br, bz, bn = bh.chunk(3)
        r, z = torch.sigmoid(xr + h @ hr + br), torch.sigmoid(xz + h @ hz + bz)
        h = (1 - z) * torch.tanh(xn + (r * h) @ hn + bn) + z * h
        ys.append(h)
    return torch.stack(ys, 1), h[None]


def peepholes(x, h, c, wi, wh, p):
    ys = []
    pi, pf, po = p.chunk(3)
    for t in range(x.shape[1]):
        i, f, n, o = (x[:, t] @ wi + h @ wh).chunk(4, 1)
        c = torch.sigmoid(f + pf * c) * c + torch.sigmoid(i + pi * c) * torch.tanh(n)
        h = torch.sigmoid(o + po * c) * torch.tanh(c)
        ys.append(h)
    return torch.stack(ys, 1), h[None], c[None]


case("gru, reset before", "nn.gru(x, {w_ih=wi, w_hh=wh, b_ih=bi, b_hh=bh}, h:unsqueeze(1), {reset_after=false})", reset_before,
     x=R(2, 3, 3), h=R(2, 2), wi=R(3, 6), wh=R(2, 6), bi=R(6), bh=R(6))
case("gru, reset before, backward too", "nn.gru(x, {{w_ih=wi, w_hh=wh}, {w_ih=wi, w_hh=wh}}, {bidirectional=true, reset_after=false})",
     lambda x, wi, wh: (lambda a, b: (torch.cat([a[0], b[0].flip(1)], 2), torch.cat([a[1], b[1]])))(
         *[reset_before(v, torch.zeros(2, 2).double(), wi, wh, torch.zeros(6).double(), torch.zeros(6).double()) for v in (x, x.flip(1))]),
     x=R(2, 3, 3), wi=R(3, 6), wh=R(2, 6))
case("lstm, peepholes", "nn.lstm(x, {w_ih=wi, w_hh=wh, peephole=p}, {h:unsqueeze(1), c:unsqueeze(1)})", peepholes,
     x=R(2, 3, 3), h=R(2, 2), c=R(2, 2), wi=R(3, 8), wh=R(2, 8), p=R(6))

print("-- Written by make_neural.py with PyTorch %s. Tensors are { dtype, shape, values }." % torch.__version__)
print("return {")
for text in cases:
    for line in text.split("\n"):
        while len(line) > 150:
            at = line.rfind(",", 0, 150) + 1
            print(line[:at])
            line = "      " + line[at:]
        print(line)
print("}")
