#!/usr/bin/env python3
"""Writes tests/golden/layers.lua: layers with their weights, inputs, results and gradients as PyTorch computes them (in doubles), in our layout
(channels last). Run it again only when a case is added: python3 tests/golden/make_layers.py > tests/golden/layers.lua"""
import torch
import torch.nn.functional as F

torch.manual_seed(11)
cases = []


def to_lua(t):
    if t is None:
        return "false"
    t = t.detach()
    return "{{%s},{%s}}" % (",".join(map(str, t.shape)), ",".join("%.7g" % v for v in t.reshape(-1).tolist()))


def table(d):
    return "{%s}" % ", ".join('["%s"]=%s' % (k, to_lua(v)) for k, v in d.items())


BUFFERS = {"moving_mean", "moving_variance", "vector_u", "mean", "variance", "boundaries"}  # no gradients


def case(layer, f, *inputs, training=False, **weights):
    """layer: an expression over nn. f(inputs..., weights...): the same of torch tensors in our layout. Keys of weights: paths, "__" for a dot."""
    xs = [x.float().double().requires_grad_(True) for x in inputs]
    ws = {k: w.float().double().requires_grad_(k not in BUFFERS) for k, w in weights.items()}
    y = f(*xs, **ws)
    cot = torch.randn(y.shape).double()
    trained = [k for k in ws if k not in BUFFERS]
    grads = torch.autograd.grad((y * cot).sum(), xs + [ws[k] for k in trained], allow_unused=True)
    names = {k: k.replace("__", ".") for k in ws}
    lines = ["  {layer=%s,%s" % ('"' + layer.replace('"', '\\"') + '"', " training=true," if training else "")]
    lines.append("    inputs={%s}," % ", ".join(map(to_lua, inputs)))
    lines.append("    weights=%s," % table({names[k]: w for k, w in ws.items()}))
    lines.append("    output=%s, cotangent=%s," % (to_lua(y), to_lua(cot)))
    lines.append("    input_grads={%s}," % ", ".join(map(to_lua, grads[:len(xs)])))
    lines.append("    grads=%s,\n  }," % table({names[k]: g for k, g in zip(trained, grads[len(xs):]) if g is not None}))
    cases.append("\n".join(lines))


def R(*shape):
    return torch.randn(*shape)


def first(x):
    return x.movedim(-1, 1)


def last(x):
    return x.movedim(1, -1)


convs, transposes = [F.conv1d, F.conv2d, F.conv3d], [F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d]
sizes = [(7,), (4, 5), (3, 4, 3)]


def torch_kernel(k):  # (window, in / groups, out) -> (out, in / groups, window); of a transposed one (window, out, in) -> (in, out, window)
    return k.movedim((-1, -2), (0, 1))


def tf_same(x, k, s, d):  # zeros as Keras's "same" adds them
    pads = []
    for n, k_, s_, d_ in zip(x.shape[1:-1], k, s, d):
        total = max((-(-n // s_) - 1) * s_ + d_ * (k_ - 1) + 1 - n, 0)
        pads = [total // 2, total - total // 2] + pads
    return F.pad(x, [0, 0] + pads)


for n in (1, 2, 3):
    c, f, size = 2, 4, sizes[n - 1]
    name = "nn.Conv%dD" % n
    x = R(1 if n == 3 else 2, *size, c)
    w = R(*[3] * n, c, f)
    case(name + "{4, 3}", lambda x, kernel, bias: last(convs[n - 1](first(x), torch_kernel(kernel), bias)), x, kernel=w, bias=R(f))
    case(name + "{4, 3, strides = 2, padding = 'same', activation = 'tanh'}",
         lambda x, kernel, bias: torch.tanh(last(convs[n - 1](first(tf_same(x, [3] * n, [2] * n, [1] * n)), torch_kernel(kernel), bias, stride=2))),
         x, kernel=w, bias=R(f))
    case(name + "{4, 2, groups = 2, use_bias = false}", lambda x, kernel: last(convs[n - 1](first(x), torch_kernel(kernel), groups=2)), x,
         kernel=R(*[2] * n, c // 2, f))
    if n < 3:
        case(name + "{4, 2, dilation_rate = 3}", lambda x, kernel, bias: last(convs[n - 1](first(x), torch_kernel(kernel), bias, dilation=3)), x,
             kernel=R(*[2] * n, c, f), bias=R(f))
    case(name + "Transpose{4, 3}", lambda x, kernel, bias: last(transposes[n - 1](first(x), torch_kernel(kernel), bias)), x, kernel=R(*[3] * n, f, c),
         bias=R(f))
    # Keras: n * stride elements, of the whole result the middle (what is odd is cut behind)
    cut = (slice(None),) + tuple(slice(0, 2 * m) for m in size)
    case(name + "Transpose{4, 3, strides = 2, padding = 'same'}",
         lambda x, kernel, bias: last(transposes[n - 1](first(x), torch_kernel(kernel), bias, stride=2))[cut], x, kernel=R(*[3] * n, f, c), bias=R(f))
    case(name + "Transpose{4, 3, strides = 2, padding = 'same', output_padding = 1, activation = 'sigmoid'}",
         lambda x, kernel, bias: torch.sigmoid(last(transposes[n - 1](first(x), torch_kernel(kernel), bias, stride=2))[cut]), x,
         kernel=R(*[3] * n, f, c), bias=R(f))

case("nn.Conv1D{3, 3, padding = 'causal', dilation_rate = 2}",
     lambda x, kernel, bias: last(F.conv1d(F.pad(first(x), (4, 0)), torch_kernel(kernel), bias, dilation=2)), R(2, 6, 2), kernel=R(3, 2, 3), bias=R(3))
case("nn.Conv2DTranspose{3, {4, 2}, strides = {1, 3}, dilation_rate = {2, 1}}",  # Keras: at least n * stride, zeros behind
     lambda x, kernel, bias: last(F.pad(F.conv_transpose2d(first(x), torch_kernel(kernel), None, stride=(1, 3), dilation=(2, 1)), (0, 1))) + bias,
     R(1, 3, 4, 2), kernel=R(4, 2, 3, 2), bias=R(3))


def depthwise(n, x, kernel, bias=None, **o):  # kernel (window, C, multiplier)
    c, m = kernel.shape[-2:]
    return last(convs[n - 1](first(x), kernel.reshape(*kernel.shape[:-2], c * m).movedim(-1, 0).unsqueeze(1), bias, groups=c, **o))


for n in (1, 2):
    x = R(1, 7 if n == 1 else 6, *sizes[n - 1][1:], 3)
    ones = [1] * n
    case("nn.DepthwiseConv%dD{3, depth_multiplier = 2}" % n, lambda x, kernel, bias: depthwise(n, x, kernel, bias), x, kernel=R(*[3] * n, 3, 2),
         bias=R(6))
    case("nn.DepthwiseConv%dD{2, strides = 2, padding = 'same', use_bias = false, activation = 'relu'}" % n,
         lambda x, kernel: torch.relu(depthwise(n, tf_same(x, [2] * n, [2] * n, ones), kernel, stride=2)), x, kernel=R(*[2] * n, 3, 1))
    case("nn.SeparableConv%dD{5, 3, depth_multiplier = 2, dilation_rate = 2}" % n,
         lambda x, depthwise_kernel, pointwise_kernel, bias: depthwise(n, x, depthwise_kernel, dilation=2) @ pointwise_kernel.reshape(6, 5) + bias, x,
         depthwise_kernel=R(*[3] * n, 3, 2), pointwise_kernel=R(*ones, 6, 5), bias=R(5))

# ---- pooling
maxes, means = [F.max_pool1d, F.max_pool2d, F.max_pool3d], [F.avg_pool1d, F.avg_pool2d, F.avg_pool3d]
amaxes = [F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d]
ameans = [F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d]
for n in (1, 2, 3):
    x = R(1, *sizes[n - 1], 2)
    dims = tuple(range(1, n + 1))
    case("nn.MaxPooling%dD{}" % n, lambda x: last(maxes[n - 1](first(x), 2)), x)
    case("nn.MaxPooling%dD{3, strides = 1, padding = 'same'}" % n, lambda x: last(maxes[n - 1](first(x), 3, 1, 1)), x)
    case("nn.AveragePooling%dD{}" % n, lambda x: last(means[n - 1](first(x), 2)), x)
    case("nn.AveragePooling%dD{3, strides = 1, padding = 'same'}" % n,
         lambda x: last(means[n - 1](first(x), 3, 1, 1, count_include_pad=False)), x)
    case("nn.GlobalMaxPooling%dD{}" % n, lambda x: x.amax(dims), x)
    case("nn.GlobalAveragePooling%dD{keepdims = true}" % n, lambda x: x.mean(dims, keepdim=True), x)
    case("nn.AdaptiveMaxPooling%dD{3}" % n, lambda x: last(amaxes[n - 1](first(x), 3)), x)
    case("nn.AdaptiveAveragePooling%dD{2}" % n, lambda x: last(ameans[n - 1](first(x), 2)), x)
    case("nn.UpSampling%dD{2}" % n, lambda x: last(F.interpolate(first(x), scale_factor=2, mode="nearest")), x)
    case("nn.ZeroPadding%dD{1}" % n, lambda x: F.pad(x, [0, 0] + [1] * (2 * n)), x)
x = R(1, 4, 3, 2)
case("nn.UpSampling2D{{2, 3}, interpolation = 'bilinear'}", lambda x: last(F.interpolate(first(x), size=(8, 9), mode="bilinear")), x)
case("nn.Resizing{3, 5}", lambda x: last(F.interpolate(first(x), size=(3, 5), mode="bilinear")), x)
case("nn.Resizing{2, 5, interpolation = 'nearest'}", lambda x: last(F.interpolate(first(x), size=(2, 5), mode="nearest-exact")), x)
case("nn.Resizing{6, 6, crop_to_aspect_ratio = true}", lambda x: last(F.interpolate(first(x[:, 0:3]), size=(6, 6), mode="bilinear")), x)
case("nn.Resizing{6, 6, pad_to_aspect_ratio = true, fill_value = 2}",
     lambda x: last(F.interpolate(first(F.pad(x, (0, 0, 0, 1), value=2)), size=(6, 6), mode="bilinear")), x)
case("nn.PixelShuffle{2}", lambda x: last(F.pixel_shuffle(first(x), 2)), R(1, 2, 3, 8))
for n, text in ((1, "{{1, 2}}"), (2, "{{{1, 2}, {0, 1}}}"), (3, "{{{1, 1}, {0, 1}, {1, 0}}}")):
    slices = [slice(1, -1 if n == 3 else -2), slice(None, -1), slice(1, None)][:n]
    case("nn.Cropping%dD%s" % (n, text), lambda x: x[tuple([slice(None)] + slices)], R(2, *sizes[n - 1], 2))

# ---- normalization
x = R(2, 4, 3, 6)
affine = dict(gamma=R(6), beta=R(6))
case("nn.BatchNorm{}", lambda x, gamma, beta: last(F.batch_norm(first(x), None, None, gamma, beta, True, eps=1e-3)), x, training=True, **affine)
case("nn.BatchNorm{axis = 2}", lambda x, gamma, beta: F.batch_norm(x, None, None, gamma, beta, True, eps=1e-3), x, training=True, gamma=R(4), beta=R(4))
case("nn.GroupNorm{3}", lambda x, gamma, beta: last(F.group_norm(first(x), 3, gamma, beta, 1e-3)), x, **affine)
case("nn.GroupNorm{2, axis = 2, epsilon = 1e-5}", lambda x, gamma, beta: F.group_norm(x, 2, gamma, beta, 1e-5), x, gamma=R(4), beta=R(4))
case("nn.InstanceNorm{}", lambda x, gamma, beta: last(F.instance_norm(first(x), weight=gamma, bias=beta, eps=1e-3)), x, **affine)
case("nn.LayerNorm{axis = {3, 4}}", lambda x, gamma, beta: F.layer_norm(x, (3, 6), gamma, beta, 1e-3), x, gamma=R(3, 6), beta=R(3, 6))
case("nn.RMSNorm{}", lambda x, scale: x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6) * scale, x, scale=R(6))
case("nn.RMSNorm{axis = 2}", lambda x, scale: x / torch.sqrt((x * x).mean(1, keepdim=True) + 1e-6) * scale.reshape(4, 1, 1), x, scale=R(4))
case("nn.UnitNorm{}", lambda x: F.normalize(x, dim=-1), x)
case("nn.UnitNorm{axis = {2, 3}}", lambda x: x / x.norm(dim=(1, 2), keepdim=True), x)
case("nn.WeightNorm{nn.Dense{4}}", lambda x, g, layer__kernel, layer__bias: F.linear(x, torch._weight_norm(layer__kernel.t(), g.reshape(4, 1), 0), layer__bias),
     R(3, 5), g=R(4), layer__kernel=R(5, 4), layer__bias=R(4))

# ---- activations
def sparsemax(x):  # Martins and Astudillo, algorithm 1
    z = x.sort(-1, descending=True).values
    sums, k = z.cumsum(-1), torch.arange(1, x.shape[-1] + 1)
    size = (1 + k * z > sums).sum(-1, keepdim=True)
    return torch.relu(x - (sums.gather(-1, size - 1) - 1) / size)


x = R(2, 4) * 3
for text, f in {
    "ELU{0.7}": lambda x: F.elu(x, 0.7), "CELU{0.7}": lambda x: F.celu(x, 0.7), "GELU{}": F.gelu,
    "GELU{approximate = true}": lambda x: F.gelu(x, approximate="tanh"), "SELU{}": F.selu, "SiLU{}": F.silu, "Mish{}": F.mish, "Softplus{}": F.softplus,
    "Softsign{}": F.softsign, "LogSigmoid{}": F.logsigmoid, "HardSigmoid{}": F.hardsigmoid, "HardSwish{}": F.hardswish, "HardTanh{}": F.hardtanh,
    "HardShrink{0.4}": lambda x: F.hardshrink(x, 0.4), "SoftShrink{0.4}": lambda x: F.softshrink(x, 0.4), "TanhShrink{}": F.tanhshrink,
    "ReLU6{}": F.relu6, "Sigmoid{}": torch.sigmoid, "Tanh{}": torch.tanh, "Exponential{}": torch.exp, "ThresholdedReLU{0.8}": lambda x: F.threshold(x, 0.8, 0),
    "Threshold{0.1, 20}": lambda x: F.threshold(x, 0.1, 20), "LogSoftmax{}": lambda x: F.log_softmax(x, -1), "Softmin{1}": lambda x: F.softmin(x, 0),
    "GLU{}": lambda x: F.glu(x, -1), "CReLU{}": lambda x: torch.cat([x.relu(), (-x).relu()], -1), "RReLU{}": lambda x: F.rrelu(x),
    "LeakyReLU{0.1}": lambda x: F.leaky_relu(x, 0.1), "ReLU{6}": F.relu6,
}.items():
    case("nn." + text, f, x)
case("nn.PReLU{}", lambda x, alpha: torch.where(x > 0, x, alpha * x), R(2, 3, 4), alpha=R(3, 4))
case("nn.PReLU{shared_axes = 2}", lambda x, alpha: F.prelu(x.movedim(-1, 1), alpha.reshape(4)).movedim(1, -1), R(2, 3, 4), alpha=R(1, 4))

# ---- several tensors, products
case("nn.Dot{axes = 2}", lambda a, b: (a * b).sum(-1, keepdim=True), R(3, 4), R(3, 4))
case("nn.Dot{axes = {2, 3}}", lambda a, b: torch.einsum("nij,nki->njk", a, b), R(2, 3, 4), R(2, 5, 3))
case("nn.Dot{axes = -1, normalize = true}", lambda a, b: torch.einsum("nij,nkj->nik", F.normalize(a, dim=-1), F.normalize(b, dim=-1)), R(2, 3, 4), R(2, 5, 4))
case("nn.Bilinear{3}", lambda a, b, kernel, bias: F.bilinear(a, b, kernel.movedim(-1, 0), bias), R(2, 4), R(2, 5), kernel=R(4, 5, 3), bias=R(3))
case("nn.EinsumDense{'abc,cde->abde', output_shape = {-1, 4, 2}, bias_axes = 'de'}",
     lambda x, kernel, bias: torch.einsum("abc,cde->abde", x, kernel) + bias, R(2, 3, 5), kernel=R(5, 4, 2), bias=R(4, 2))
case("nn.EinsumDense{'...x,xy->...y', output_shape = 4, bias_axes = 'y', activation = 'tanh'}",
     lambda x, kernel, bias: torch.tanh(x @ kernel + bias), R(2, 3, 5), kernel=R(5, 4), bias=R(4))
case("nn.EinsumDense{'ab...,bc->ac...', output_shape = 3, bias_axes = 'c'}",
     lambda x, kernel, bias: torch.einsum("ab...,bc->ac...", x, kernel) + bias, R(2, 5, 2, 2), kernel=R(5, 3), bias=R(3, 1, 1))

# ---- dense, shapes, values
sm = torch.softmax
case("nn.Dense{4, activation = 'tanh'}", lambda x, kernel, bias: torch.tanh(x @ kernel + bias), R(3, 5), kernel=R(5, 4), bias=R(4))
case("nn.Dense{3, use_bias = false}", lambda x, kernel: x @ kernel, R(2, 3, 5), kernel=R(5, 3))
x = R(2, 3, 4)
case("nn.Flatten{}", lambda x: x.reshape(2, 12), x)
case("nn.Reshape{2, -1}", lambda x: x.reshape(2, 2, 6), x)
case("nn.Permute{2, 1}", lambda x: x.permute(0, 2, 1), x)
case("nn.RepeatVector{3}", lambda x: x[:, None].repeat(1, 3, 1), R(2, 4))
case("nn.Rescaling{0.5, -1}", lambda x: x * 0.5 - 1, x)
case("nn.Identity{}", lambda x: x * 1, x)
case("nn.Input{3, 4}", lambda x: x * 1, x)
case("nn.Operation{'exp'}", torch.exp, x)
case("nn.Activation{'softplus'}", F.softplus, x)
case("nn.Softmax{}", lambda x: sm(x, -1), x)
case("nn.Softmax{axis = 2}", lambda x: sm(x, 1), x)
case("nn.Sparsemax{}", sparsemax, x)
case("nn.ReLU{2, negative_slope = 0.2, threshold = 0.5}", lambda x: torch.where(x >= 2, torch.full_like(x, 2), torch.where(x >= 0.5, x, 0.2 * (x - 0.5))),
     3 * R(4, 5))

# ---- what does nothing in inference
for text in ("Dropout{0.5}", "Dropout{0.5, noise_shape = {-1, 1, -1}}", "AlphaDropout{0.3}", "GaussianDropout{0.5}", "GaussianNoise{0.5}", "DropPath{0.5}",
             "SpatialDropout1D{0.5}", "ActivityRegularization{0.1, 0.2}"):
    case("nn." + text, lambda x: x * 1, x)
case("nn.SpatialDropout2D{0.5}", lambda x: x * 1, R(1, 2, 3, 2))
case("nn.SpatialDropout3D{0.5}", lambda x: x * 1, R(1, 2, 3, 2, 2))
case("nn.BatchNorm{momentum = 0.9}", lambda x, gamma, beta, **moving: F.batch_norm(x, moving["moving_mean"], moving["moving_variance"], gamma, beta, eps=1e-3),
     R(4, 3), gamma=R(3), beta=R(3), moving_mean=R(3), moving_variance=R(3).abs() + 0.5)

# ---- several tensors
a, b, c = R(2, 3, 4), R(2, 3, 4), R(2, 3, 4)
for text, f in {"Add": lambda *l: sum(l), "Multiply": lambda x, y, z: x * y * z, "Average": lambda *l: sum(l) / 3,
                "Maximum": lambda x, y, z: x.maximum(y).maximum(z), "Minimum": lambda x, y, z: x.minimum(y).minimum(z)}.items():
    case("nn.%s{}" % text, f, a, b, c)
case("nn.Add{}", torch.add, a, R(2, 1, 4))
case("nn.Subtract{}", torch.sub, a, b)
case("nn.Concatenate{}", lambda *l: torch.cat(l, -1), a, R(2, 3, 2), c)
case("nn.Concatenate{axis = 2}", lambda *l: torch.cat(l, 1), a, R(2, 1, 4))
case("nn.SkipConnection{nn.Dense{4, activation = 'tanh'}}", lambda x, layer__kernel, layer__bias: torch.tanh(x @ layer__kernel + layer__bias) + x, a,
     layer__kernel=R(4, 4), layer__bias=R(4))
case("nn.SkipConnection{nn.Dense{2, use_bias = false}, merge = 'concatenate'}", lambda x, layer__kernel: torch.cat([x @ layer__kernel, x], -1), a,
     layer__kernel=R(4, 2))
case("nn.Parallel{nn.Dense{2, use_bias = false}, nn.Dense{3, use_bias = false}, merge = 'concatenate'}",
     lambda x, layers__1__kernel, layers__2__kernel: torch.cat([x @ layers__1__kernel, x @ layers__2__kernel], -1), a,
     layers__1__kernel=R(4, 2), layers__2__kernel=R(4, 3))
case("nn.TimeDistributed{nn.Conv1D{3, 2}}",
     lambda x, layer__kernel, layer__bias: last(F.conv1d(first(x.reshape(6, 5, 2)), torch_kernel(layer__kernel), layer__bias)).reshape(2, 3, 4, 3), R(2, 3, 5, 2),
     layer__kernel=R(2, 2, 3), layer__bias=R(3))


def spectral(x, vector_u, layer__kernel, layer__bias):  # of a matrix (in, out); u stays, v is one step from it: neither has a gradient
    u = vector_u
    v = F.normalize(u @ layer__kernel.detach().t(), dim=-1)
    return x @ (layer__kernel / (v @ layer__kernel @ u.t()).sum()) + layer__bias


case("nn.SpectralNorm{nn.Dense{4}}", spectral, R(3, 5), vector_u=F.normalize(R(1, 4), dim=-1), layer__kernel=R(5, 4), layer__bias=R(4))

# ---- ids and places
ids = torch.tensor([[3, 1, 4], [1, 5, 2]])
case("nn.Embedding{5, 4}", lambda i, embeddings: embeddings[i.long() - 1], ids, embeddings=R(5, 4))
case("nn.Embedding{5, 4, mask_zero = true}", lambda i, embeddings: embeddings[i.long() - 1], ids, embeddings=R(5, 4))
case("nn.TokenAndPositionEmbedding{5, 4, 2}",
     lambda i, token_embedding__embeddings, position_embedding__position_embeddings:
     token_embedding__embeddings[i.long() - 1] + position_embedding__position_embeddings[:3], ids, token_embedding__embeddings=R(5, 2),
     position_embedding__position_embeddings=R(4, 2))
case("nn.PositionEmbedding{5}", lambda x, position_embeddings: position_embeddings[:3].expand(2, 3, 4) + 0 * x, a, position_embeddings=R(5, 4))
case("nn.PositionEmbedding{5, add = true}", lambda x, position_embeddings: position_embeddings[:3] + x, a, position_embeddings=R(5, 4))


def sine(x, wave=10000):  # Vaswani et al.: sin and cos of pos / wave^(2i / C), in turn
    t, n = x.shape[1:]
    angle = torch.arange(t).double()[:, None] / wave ** (torch.arange(0, n, 2).double() / n)
    return torch.stack([angle.sin(), angle.cos()], -1).reshape(t, -1)[:, :n] + 0 * x


def rotary(x, wave=10000):  # Su et al., features as complex numbers x[i] + j x[i + C / 2]
    t, n = x.shape[1], x.shape[-1] // 2
    angle = (torch.arange(t).double()[:, None] * wave ** (-torch.arange(n).double() / n)).reshape([1, t] + [1] * (x.dim() - 3) + [n])
    z = torch.complex(x[..., :n], x[..., n:]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([z.real, z.imag], -1)


case("nn.SinePositionEncoding{}", sine, a)
case("nn.SinePositionEncoding{max_wavelength = 100, add = true}", lambda x: sine(x, 100) + x, R(2, 3, 5))
case("nn.RotaryEmbedding{}", rotary, R(2, 3, 6))
case("nn.RotaryEmbedding{max_wavelength = 100}", lambda x: rotary(x, 100), R(1, 4, 2, 4))
case("nn.Masking{}", lambda x: x * (x != 0).any(-1, keepdim=True), a * (torch.arange(3) != 1)[None, :, None])

# ---- preparation
case("nn.Normalization{mean = {1, -2, 0}, variance = {4, 0.25, 1}}",
     lambda x: (x - torch.tensor([1., -2, 0])) / torch.tensor([2, 0.5, 1.]), R(4, 3))
case("nn.Normalization{mean = 0.5, variance = 4, axis = false, invert = true}", lambda x: x * 2 + 0.5, R(4, 3))
counts = torch.stack([torch.bincount(row - 1, minlength=5) for row in ids]).double()
case("nn.CategoryEncoding{5}", lambda i: counts.clamp(max=1) + 0 * i.sum(), ids)
case("nn.CategoryEncoding{5, output_mode = 'count'}", lambda i: counts + 0 * i.sum(), ids)
case("nn.CategoryEncoding{5, output_mode = 'one_hot'}", lambda i: F.one_hot(i.long()[:, 0] - 1, 5) + 0 * i, ids[:, :1])
case("nn.Discretization{{-0.5, 0, 1}}", lambda x: torch.bucketize(x.detach(), torch.tensor([-0.5, 0, 1]), right=True) + 1. + 0 * x, R(3, 4))


def hashed(i, bins, salt):  # splitmix64 of Steele, Lea and Flood, in whole numbers of Python
    def mix(n):
        m = (1 << 64) - 1
        h = (n + (salt + 1) * 0x9E3779B97F4A7C15) & m
        h = (h ^ h >> 30) * 0xBF58476D1CE4E5B9 & m
        h = (h ^ h >> 27) * 0x94D049BB133111EB & m
        return ((h ^ h >> 31) & (m >> 1)) % bins + 1.
    return torch.tensor([[mix(int(n)) for n in row] for row in i.tolist()]) + 0 * i


case("nn.Hashing{7, salt = 3}", lambda i: hashed(i, 7, 3), torch.tensor([[5, -17, 123456], [0, 1, 2]]))

image = torch.rand(1, 3, 4, 3)
for text in ("RandomFlip{}", "RandomRotation{0.1}", "RandomTranslation{0.1, 0.2}", "RandomZoom{0.2}", "RandomGrayscale{}", "ColorJitter{hue = 0.2}",
             "SaltPepper{0.1}"):
    case("nn." + text, lambda x: x * 1, image)

print("-- Written by make_layers.py with PyTorch %s. Tensors are { shape, values }." % torch.__version__)
print("return {")
for text in cases:
    for line in text.split("\n"):
        while len(line) > 150:  # break after a comma
            at = line.rfind(",", 0, 148) + 1
            print(line[:at])
            line = "      " + line[at:]
        print(line)
print("}")
