#!/usr/bin/env python3
"""Writes tests/golden/sequence.lua: layers of sequences as PyTorch computes them (in doubles), with our weights (Keras's names, shapes and
order): results, and gradients of inputs and weights. Run it again only when a case is added:
python3 tests/golden/make_sequence.py > tests/golden/sequence.lua"""
import re
import textwrap

import torch
import torch.nn as tnn
import torch.nn.functional as F

torch.manual_seed(11)
torch.set_default_dtype(torch.float64)
cases = []


def to_lua(a):
    a = a.detach()
    return "{{%s},{%s}}" % (",".join(map(str, a.shape)), ",".join("%.7g" % v for v in a.reshape(-1).tolist()))


def leaf(*shape, scale=0.5):
    return (torch.randn(shape) * scale).float().double().requires_grad_(True)


def case(name, layer, call, f, weights, inputs):
    """layer, call: Lua over nn, layer and the inputs' names. f(inputs, weights): the same in PyTorch, a tensor or several."""
    out = f(inputs, weights)
    outs = list(out) if isinstance(out, (tuple, list)) else [out]
    cots = [torch.randn(o.shape).float().double() for o in outs]
    total = sum((o * c).sum() for o, c in zip(outs, cots))
    wanted = list(inputs.items()) + list(weights.items())
    grads = torch.autograd.grad(total, [t for _, t in wanted], allow_unused=True)
    lines = ["  {name=%s,\n    layer=%s,\n    call=%s," % tuple('"%s"' % s.replace('"', '\\"') for s in (name, layer, call))]
    lines.append("    weights={%s}," % ", ".join('{"%s",%s}' % (k, to_lua(t)) for k, t in weights.items()))
    lines.append("    inputs={%s}," % ", ".join("%s=%s" % (k, to_lua(t)) for k, t in inputs.items()))
    lines.append("    outputs={%s}," % ",".join(map(to_lua, outs)))
    lines.append("    cotangents={%s}," % ",".join(map(to_lua, cots)))
    lines.append("    grads={%s}}," % ", ".join('["%s"]=%s' % (k, to_lua(g)) for (k, _), g in zip(wanted, grads) if g is not None))
    wrap = lambda line: textwrap.wrap(re.sub(",\\s*", ", ", line), 148, subsequent_indent="      ", break_on_hyphens=False)
    cases.append("\n".join(lines[:1] + [part for line in lines[1:] for part in wrap(line)]))


def torch_module(module, values):
    """The module called with these values in place of its parameters, so that gradients reach them."""
    return lambda *args, **kw: torch.nn.utils.stateless.functional_call(module, values, args, kw)


N, T, C, H = 2, 4, 3, 5


def cell_weights(gates, bias=None, prefix="cell.", c=C, h=H):
    return {prefix + "kernel": leaf(c, gates * h), prefix + "recurrent_kernel": leaf(h, gates * h),
            prefix + "bias": leaf(*(bias or (gates * h,)))}


def zrh_to_rzn(m):  # Keras's order of a GRU's gates -> PyTorch's
    z, r, h = m.chunk(3, -1)
    return torch.cat([r, z, h], -1)


def torch_weights(w, prefix="cell.", suffix="", gru=False):
    order = zrh_to_rzn if gru else (lambda m: m)
    b = order(w[prefix + "bias"])
    both = (b[0], b[1]) if b.dim() == 2 else (b, torch.zeros_like(b))
    return {"weight_ih_l0" + suffix: order(w[prefix + "kernel"]).t(), "weight_hh_l0" + suffix: order(w[prefix + "recurrent_kernel"]).t(),
            "bias_ih_l0" + suffix: both[0], "bias_hh_l0" + suffix: both[1]}


def run(kind, w, x, state=None, two_ways=False):
    """torch.lstm, torch.gru or torch.rnn_tanh with our weights; a module would not hand gradients to them."""
    if two_ways:
        values = {**torch_weights(w, "forward_layer.cell."), **torch_weights(w, "backward_layer.cell.", "_reverse")}
    else:
        values = torch_weights(w, gru=kind is torch.gru)
    size = next(t for k, t in w.items() if "recurrent" in k).shape[0]
    zeros = torch.zeros(2 if two_ways else 1, x.shape[0], size)
    state = state or ((zeros, zeros) if kind is torch.lstm else zeros)
    return kind(x, state, list(values.values()), True, 1, 0.0, False, two_ways, True)


x = lambda: {"x": leaf(N, T, C, scale=1)}
case("SimpleRNN", "nn.SimpleRNN{5, return_sequences = true}", "layer(x)", lambda i, w: run(torch.rnn_tanh, w, i["x"])[0], cell_weights(1), x())


def lstm_all(i, w):
    y, h, c = run(torch.lstm, w, i["x"], (i["h"][None], i["c"][None]))
    return y, h[0], c[0]


states = lambda: {"h": leaf(N, H), "c": leaf(N, H)}
case("LSTM", "nn.LSTM{5, return_sequences = true, return_state = true}", "layer(x, { initial_state = {h, c} })", lstm_all, cell_weights(4),
     {**x(), **states()})
case("LSTM backwards", "nn.LSTM{5, go_backwards = true}", "layer(x)", lambda i, w: run(torch.lstm, w, i["x"].flip(1))[0][:, -1],
     cell_weights(4), x())
case("GRU", "nn.GRU{5, return_sequences = true}", "layer(x)", lambda i, w: run(torch.gru, w, i["x"])[0], cell_weights(3, (2, 3 * H)), x())


case("Bidirectional", "nn.Bidirectional{ nn.LSTM{5, return_sequences = true} }", "layer(x)",
     lambda i, w: run(torch.lstm, w, i["x"], two_ways=True)[0],
     {**cell_weights(4, prefix="forward_layer.cell."), **cell_weights(4, prefix="backward_layer.cell.")}, x())


def lstm_other(i, w):  # other activations, no bias
    h = c = torch.zeros(N, H)
    for t in range(T):
        a, f, g, o = (i["x"][:, t] @ w["cell.kernel"] + h @ w["cell.recurrent_kernel"]).chunk(4, -1)
        c = torch.relu(f) * c + torch.relu(a) * F.softsign(g)
        h = torch.relu(o) * F.softsign(c)
    return h


case("LSTM, other activations", 'nn.LSTM{5, activation = "softsign", recurrent_activation = "relu", use_bias = false}', "layer(x)", lstm_other,
     {k: v for k, v in cell_weights(4).items() if k != "cell.bias"}, x())


def gru_before(i, w):
    h = torch.zeros(N, H)
    k, r, b = w["cell.kernel"], w["cell.recurrent_kernel"], w["cell.bias"]
    for t in range(T):
        xz, xr, xh = (i["x"][:, t] @ k + b).chunk(3, -1)
        z, q = torch.sigmoid(xz + h @ r[:, :H]), torch.sigmoid(xr + h @ r[:, H:2 * H])
        h = z * h + (1 - z) * torch.tanh(xh + (q * h) @ r[:, 2 * H:])
    return h


case("GRU, reset before", "nn.GRU{5, reset_after = false}", "layer(x)", gru_before, cell_weights(3), x())


def stacked(i, w):
    y = run(torch.lstm, {k.replace("cell.cells.1.", "cell."): v for k, v in w.items() if ".1." in k}, i["x"])[0]
    two = {k.replace("cell.cells.2.", "cell."): v for k, v in w.items() if ".2." in k}
    return run(torch.gru, two, y)[0][:, -1]


case("RNN of stacked cells", "nn.RNN{ { nn.LSTMCell{5}, nn.GRUCell{5} } }", "layer(x)", stacked,
     {**cell_weights(4, prefix="cell.cells.1."), **cell_weights(3, (2, 3 * H), prefix="cell.cells.2.", c=H)}, x())


def conv_lstm(stride, same):
    def f(i, w):
        k, r = (w["cell." + n].permute(3, 2, 0, 1) for n in ("kernel", "recurrent_kernel"))
        h = c = None
        outs = []
        for t in range(3):
            z = F.conv2d(i["x"][:, t].permute(0, 3, 1, 2), k, w["cell.bias"], stride, 1 if same else 0)
            h = torch.zeros(z.shape[0], 2, *z.shape[2:]) if h is None else h
            c = torch.zeros_like(h) if c is None else c
            a, g, n, o = (z + F.conv2d(h, r, padding=1)).chunk(4, 1)
            c = torch.sigmoid(g) * c + torch.sigmoid(a) * torch.tanh(n)
            h = torch.sigmoid(o) * torch.tanh(c)
            outs.append(h)
        return torch.stack(outs, 1).permute(0, 1, 3, 4, 2)
    return f


def conv_weights():
    return {"cell.kernel": leaf(3, 3, 2, 8), "cell.recurrent_kernel": leaf(3, 3, 2, 8), "cell.bias": leaf(8)}


case("ConvLSTM2D", 'nn.ConvLSTM2D{2, 3, padding = "same", return_sequences = true}', "layer(x)", conv_lstm(1, True), conv_weights(),
     {"x": leaf(2, 3, 4, 3, 2, scale=1)})
case("ConvLSTM2D, strided", "nn.ConvLSTM2D{2, 3, strides = 2, return_sequences = true}", "layer(x)", conv_lstm(2, False), conv_weights(),
     {"x": leaf(1, 3, 5, 7, 2, scale=1)})

# ---- attention ----
D, HEADS, E, S = 6, 2, 3, 5


def heads_weights(q=D, k=D, v=D, key_dim=E, value_dim=E, out=D, heads=HEADS, kv=None, last="attention_output", prefix=""):
    kv = kv or heads
    w = {"query.kernel": leaf(q, heads, key_dim), "query.bias": leaf(heads, key_dim), "key.kernel": leaf(k, kv, key_dim),
         "key.bias": leaf(kv, key_dim), "value.kernel": leaf(v, kv, value_dim), "value.bias": leaf(kv, value_dim),
         last + ".kernel": leaf(heads, value_dim, out), last + ".bias": leaf(out)}
    return {prefix + key: t for key, t in w.items()}


def torch_heads(w, prefix, name):  # our weights as those of torch.nn.MultiheadAttention (same sizes)
    g = lambda n: w[prefix + n]
    flat = lambda n: g(n + ".kernel").reshape(D, -1).t()
    return {name + "in_proj_weight": torch.cat([flat("query"), flat("key"), flat("value")]),
            name + "in_proj_bias": torch.cat([g(n + ".bias").reshape(-1) for n in ("query", "key", "value")]),
            name + "out_proj.weight": g("attention_output.kernel").reshape(-1, D).t(), name + "out_proj.bias": g("attention_output.bias")}


def mha_torch(mask):
    def f(i, w):
        module = torch_module(tnn.MultiheadAttention(D, HEADS, batch_first=True), torch_heads(w, "", ""))
        return module(i["q"], i["v"], i["v"], attn_mask=mask, average_attn_weights=False)
    return f


qv = lambda t=S: {"q": leaf(N, T, D, scale=1), "v": leaf(N, t, D, scale=1)}
case("MultiHeadAttention", "nn.MultiHeadAttention{2, 3}", "layer(q, v, nil, { return_attention_scores = true })", mha_torch(None),
     heads_weights(), qv())
case("MultiHeadAttention, causal", "nn.MultiHeadAttention{2, 3}", "(layer(q, v, { use_causal_mask = true, return_attention_scores = true }))",
     lambda i, w: mha_torch(torch.triu(torch.ones(T, T), 1).bool())(i, w)[0], heads_weights(), qv(T))


def mha_einsum(kv=None, last="attention_output"):
    def f(i, w):
        q = torch.einsum("ntc,che->nthe", i["q"], w["query.kernel"]) + w["query.bias"]
        k = torch.einsum("ntc,che->nthe", i["k"], w["key.kernel"]) + w["key.bias"]
        v = torch.einsum("ntc,che->nthe", i["v"], w["value.kernel"]) + w["value.bias"]
        if kv:
            k, v = (t.repeat_interleave(q.shape[2] // kv, 2) for t in (k, v))
        a = torch.softmax(torch.einsum("nthe,nshe->nhts", q, k) / q.shape[-1] ** 0.5, -1)
        return torch.einsum("nthe,hec->ntc", torch.einsum("nhts,nshe->nthe", a, v), w[last + ".kernel"]) + w[last + ".bias"]
    return f


case("MultiHeadAttention, sizes", "nn.MultiHeadAttention{2, 3, value_dim = 4, output_shape = 7}", "layer(q, v, k)", mha_einsum(),
     heads_weights(D, 4, 5, 3, 4, 7), {"q": leaf(N, T, D, scale=1), "k": leaf(N, S, 4, scale=1), "v": leaf(N, S, 5, scale=1)})
case("GroupedQueryAttention", "nn.GroupedQueryAttention{3, 4, 2}", "layer(q, v, k)", mha_einsum(2),
     heads_weights(heads=4, kv=2), {**qv(), "k": leaf(N, S, D, scale=1)})

three = lambda: {**qv(), "k": leaf(N, S, D, scale=1)}
soft = lambda s, v: torch.softmax(s, -1) @ v
case("Attention", "nn.Attention{}", "layer(q, v, k)", lambda i, w: soft(i["q"] @ i["k"].mT, i["v"]), {}, three())
case("Attention, scale", "nn.Attention{ use_scale = true }", "layer{q, v, k}", lambda i, w: soft(i["q"] @ i["k"].mT * w["scale"], i["v"]),
     {"scale": leaf()}, three())
case("Attention, concat", 'nn.Attention{ use_scale = true, score_mode = "concat" }', "layer(q, v, k)",
     lambda i, w: soft(w["concat_score_weight"] * torch.tanh(w["scale"] * (i["q"][:, :, None] + i["k"][:, None])).sum(-1), i["v"]),
     {"scale": leaf(), "concat_score_weight": leaf()}, three())
case("AdditiveAttention", "nn.AdditiveAttention{}", "layer(q, v, k)",
     lambda i, w: soft((w["scale"] * torch.tanh(i["q"][:, :, None] + i["k"][:, None])).sum(-1), i["v"]), {"scale": leaf(D)}, three())

# ---- transformer blocks ----
WIDE = 8


def block_weights(cross):
    w = heads_weights(prefix="self_attention.")
    norm = lambda n: {n + ".gamma": leaf(D, scale=1), n + ".beta": leaf(D)}
    w.update(norm("self_attention_layer_norm"))
    if cross:
        w.update(heads_weights(prefix="cross_attention."))
        w.update(norm("cross_attention_layer_norm"))
    w.update(norm("feedforward_layer_norm"))
    w.update({"feedforward_intermediate_dense.kernel": leaf(D, WIDE), "feedforward_intermediate_dense.bias": leaf(WIDE),
              "feedforward_output_dense.kernel": leaf(WIDE, D), "feedforward_output_dense.bias": leaf(D)})
    return w


def torch_block(w, cross):
    values = torch_heads(w, "self_attention.", "self_attn.")
    norms = ["self_attention_layer_norm"] + (["cross_attention_layer_norm"] if cross else []) + ["feedforward_layer_norm"]
    if cross:
        values.update(torch_heads(w, "cross_attention.", "multihead_attn."))
    for i, n in enumerate(norms):
        values["norm%d.weight" % (i + 1)], values["norm%d.bias" % (i + 1)] = w[n + ".gamma"], w[n + ".beta"]
    for ours, theirs in (("intermediate", "linear1"), ("output", "linear2")):
        values[theirs + ".weight"], values[theirs + ".bias"] = (w["feedforward_%s_dense.kernel" % ours].t(),
                                                                w["feedforward_%s_dense.bias" % ours])
    return values


for first in (False, True):
    text = ", normalize_first = true" if first else ""
    options = dict(dim_feedforward=WIDE, dropout=0, batch_first=True, norm_first=first)
    case("TransformerEncoder" + text, "nn.TransformerEncoder{8, 2%s}" % text, "layer(x)",
         lambda i, w: torch_module(tnn.TransformerEncoderLayer(D, HEADS, **options), torch_block(w, False))(i["x"]),
         block_weights(False), {"x": leaf(N, T, D, scale=1)})
    case("TransformerDecoder" + text, "nn.TransformerDecoder{8, 2%s}" % text, "layer(q, v)",
         lambda i, w: torch_module(tnn.TransformerDecoderLayer(D, HEADS, **options), torch_block(w, True))(
             i["q"], i["v"], tgt_mask=torch.triu(torch.ones(T, T), 1).bool()),
         block_weights(True), qv())

# ---- one step of a cell ----
step = lambda *names: {"x": leaf(N, C, scale=1), **{n: leaf(N, H) for n in names}}
bare = lambda gates, bias=None: cell_weights(gates, bias, prefix="")


def gru_step(i, w):
    z, r, n = (i["x"] @ w["kernel"] + w["bias"][0]).chunk(3, -1)
    hz, hr, hn = (i["h"] @ w["recurrent_kernel"] + w["bias"][1]).chunk(3, -1)
    z, n = torch.sigmoid(z + hz), torch.tanh(n + torch.sigmoid(r + hr) * hn)
    return z * i["h"] + (1 - z) * n


def lstm_step(x, h, c, w):
    a, f, g, o = (x @ w["kernel"] + h @ w["recurrent_kernel"] + w["bias"]).chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(a) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def rnn_step(x, h, w):
    return torch.tanh(x @ w["kernel"] + h @ w["recurrent_kernel"] + w["bias"])


def stacked_step(i, w):
    h = rnn_step(i["x"], i["h"], {k[8:]: t for k, t in w.items() if k.startswith("cells.1.")})
    return lstm_step(h, i["g"], i["c"], {k[8:]: t for k, t in w.items() if k.startswith("cells.2.")})


pick = "(function(y, states) return y%s end)(layer(x, { %s }))"
case("SimpleRNNCell", "nn.SimpleRNNCell{5}", pick % ("", "h"), lambda i, w: rnn_step(i["x"], i["h"], w), bare(1), step("h"))
case("LSTMCell", "nn.LSTMCell{5}", pick % (", states[2]", "h, c"), lambda i, w: lstm_step(i["x"], i["h"], i["c"], w), bare(4), step("h", "c"))
case("GRUCell", "nn.GRUCell{5}", pick % ("", "h"), gru_step, bare(3, (2, 3 * H)), step("h"))
case("StackedRNNCells", "nn.StackedRNNCells{ nn.SimpleRNNCell{5}, nn.LSTMCell{5} }", pick % (", states[3]", "h, g, c"), stacked_step,
     {**cell_weights(1, prefix="cells.1."), **cell_weights(4, prefix="cells.2.", c=H)}, step("h", "g", "c"))

print("-- Made by make_sequence.py from PyTorch %s: {shape, values}; do not edit.\nreturn {" % torch.__version__)
print("\n".join(cases))
print("}")
