-- How ONNX's operators are said with ours.
--
-- Owns: operators[ONNX name] = function(x, a, node, env) return results... end. x: input tensors (nil where absent, x.n of them), a: attributes;
-- node: { op =, outputs = names of the results }; env: tensors by name. ONNX counts dims and positions from 0 and has channels second: both are
-- turned here. Results, in ONNX's order, are tensors, or { shape =, values =, dtype = } for positions that are counted one by one. Versions 7 to 20
-- of the operators; what older versions had as attributes (Clip, Pad, Slice, TopK, Split) is taken too. The cases of python3-onnx run through this
-- table (onnx_spec.lua).
local nn = require "nnlua"
local common = require "nnlua.onnx.common"

local dim, dims, list, fill = common.dim, common.dims, common.list, common.fill
local last, first, position, counted, dtypes = common.last, common.first, common.position, common.counted, common.dtypes

local ops = {}
for name, run in pairs(require "nnlua.onnx.spatial") do ops[name] = run end

local function op(names, run)
  for name in names:gmatch "%w+" do ops[name] = run end
end

-- ---- element by element ---------------------------------------------------------------------------------------------
for onnx, ours in pairs {
  Abs = "abs", Acos = "acos", Acosh = "acosh", Asin = "asin", Asinh = "asinh", Atan = "atan", Atanh = "atanh", Ceil = "ceil", Cos = "cos",
  Cosh = "cosh",
  Erf = "erf", Exp = "exp", Floor = "floor", HardSwish = "hard_swish", IsNaN = "isnan", Log = "log", Neg = "neg", Not = "logical_not",
  Reciprocal = "reciprocal", Relu = "relu", Round = "round", Sigmoid = "sigmoid", Sign = "sign", Sin = "sin", Sinh = "sinh", Softplus = "softplus",
  Softsign = "softsign", Sqrt = "sqrt", Tan = "tan", Tanh = "tanh",
} do op(onnx, function(x) return nn[ours](x[1]) end) end

for onnx, ours in pairs {
  Add = "add", Sub = "sub", Mul = "mul", And = "logical_and", Or = "logical_or", Xor = "logical_xor", Equal = "eq", Greater = "gt",
  GreaterOrEqual = "ge",
  Less = "lt", LessOrEqual = "le", PRelu = "prelu", MatMul = "matmul",
} do op(onnx, function(x) return nn[ours](x[1], x[2]) end) end

op("Div", function(x)
  if x[1]:dtype():match "^b?f%d" then return nn.div(x[1], x[2]) end
  return nn.floor_div(x[1] - nn.fmod(x[1], x[2]), x[2]) -- of integers: towards 0
end)
op("Pow", function(x) return nn.pow(x[1], x[2]):to(x[1]:dtype()) end)
op("Mod", function(x, a) return nn[a.fmod == 1 and "fmod" or "mod"](x[1], x[2]) end)
op("BitShift", function(x, a)
  return nn[a.direction == "LEFT" and "bitwise_left_shift" or "bitwise_right_shift"](x[1], x[2])
end)

for onnx, ours in pairs { Max = "maximum", Min = "minimum", Sum = "add" } do
  op(onnx, function(x)
    local y = x[1]
    for i = 2, x.n do y = nn[ours](y, x[i]) end
    return y
  end)
end
op("Mean", function(x) return nn.stack({ table.unpack(x, 1, x.n) }):mean(1) end)

op("Clip", function(x, a)
  local low, high = x[2] and x[2]:item() or a.min or -math.huge, x[3] and x[3]:item() or a.max or math.huge
  return nn.clamp(x[1], low, high):to(x[1]:dtype())
end)
op("Elu", function(x, a) return nn.elu(x[1], a.alpha or 1) end)
op("Celu", function(x, a) return nn.celu(x[1], a.alpha or 1) end)
op("Selu", function(x, a)
  if not a.alpha and not a.gamma then return nn.selu(x[1]) end
  return nn.elu(x[1], a.alpha) * a.gamma -- ours has the constants of the paper
end)
op("LeakyRelu", function(x, a) return nn.leaky_relu(x[1], a.alpha or 0.01) end)
op("HardSigmoid", function(x, a) return nn.clamp(x[1] * (a.alpha or 0.2) + (a.beta or 0.5), 0, 1) end) -- ours has PyTorch's slope
op("Shrink", function(x, a)
  local bias, lambda = a.bias or 0, a.lambd or 0.5
  if bias == 0 then return nn.hard_shrink(x[1], lambda) end
  if bias == lambda then return nn.soft_shrink(x[1], lambda) end
  return nn.where(x[1]:gt(lambda), x[1] - bias, nn.where(x[1]:lt(-lambda), x[1] + bias, 0))
end)
op("ThresholdedRelu", function(x, a) return nn.threshold(x[1], a.alpha or 1, 0) end)
op("IsInf", function(x, a)
  local y = nn.isinf(x[1])
  if a.detect_negative == 0 then y = nn.logical_and(y, x[1]:gt(0)) end
  if a.detect_positive == 0 then y = nn.logical_and(y, x[1]:lt(0)) end
  return y
end)
op("Where", function(x) return nn.where(x[1], x[2], x[3]) end)

op("Cast", function(x, a) return x[1]:to(dtypes[a.to]) end)
op("CastLike", function(x) return x[1]:to(x[2]:dtype()) end)
op("Constant", function(_, a)
  if a.value then return a.value.tensor end
  local v = a.value_float or a.value_int or a.value_floats or a.value_ints
  return nn.tensor(v, { dtype = (a.value_float or a.value_floats) and "f32" or "i64" })
end)
op("Identity", function(x) return x[1] end)

-- ---- reductions -----------------------------------------------------------------------------------------------------
local function reduction(name, f)
  op(name, function(x, a)
    local axes = x[2] and list(x[2]) or a.axes
    if axes and #axes == 0 then axes = nil end
    if not axes and a.noop_with_empty_axes == 1 then return x[1] end
    return f(x[1], axes and dims(axes), a.keepdims ~= 0)
  end)
end
for onnx, ours in pairs {
  ReduceSum = "sum", ReduceMean = "mean", ReduceProd = "prod", ReduceMax = "amax", ReduceMin = "amin", ReduceLogSumExp = "logsumexp",
} do
  reduction(onnx, function(x, d, keep) return nn[ours](x, { dim = d, keepdim = keep }) end)
end
reduction("ReduceL1", function(x, d, keep) return nn.norm(x, { p = 1, dim = d, keepdim = keep }) end)
reduction("ReduceL2", function(x, d, keep) return nn.norm(x, { p = 2, dim = d, keepdim = keep }) end)
op("Hardmax", function(x, a)
  local d = dim(a.axis or -1)
  return nn.movedim(nn.one_hot(nn.argmax(x[1], d), x[1]:size(d)), -1, d)
end)
op("MeanVarianceNormalization", function(x, a)
  local d = dims(a.axes or { 0, 2, 3 })
  return (x[1] - nn.mean(x[1], d, true)) / (nn.std(x[1], { dim = d, correction = 0, keepdim = true }) + 1e-9)
end)
reduction("ReduceLogSum", function(x, d, keep) return nn.log(nn.sum(x, { dim = d, keepdim = keep })) end)
reduction("ReduceSumSquare", function(x, d, keep) return nn.sum(nn.square(x), { dim = d, keepdim = keep }) end)
for onnx, ours in pairs { ArgMax = "argmax", ArgMin = "argmin" } do
  op(onnx, function(x, a)
    local d = dim(a.axis or 0)
    if a.select_last_index ~= 1 then return counted(nn[ours](x[1], d, a.keepdims ~= 0)) end
    return x[1]:size(d) - nn[ours](nn.flip(x[1], d), d, a.keepdims ~= 0)
  end)
end
op("CumSum", function(x, a) return nn.cumsum(x[1], dim(list(x[2])[1]), { exclusive = a.exclusive == 1, reverse = a.reverse == 1 }) end)
for onnx, ours in pairs { Softmax = "softmax", LogSoftmax = "log_softmax" } do
  op(onnx, function(x, a, node)
    if (node.version or 13) >= 13 then return nn[ours](x[1], dim(a.axis or -1)) end
    local y = ops.Flatten({ x[1] }, { axis = a.axis or 1 }) -- over all dims from axis on
    return nn[ours](y, 2):reshape(x[1]:shape())
  end)
end

-- ---- shapes ---------------------------------------------------------------------------------------------------------
op("Concat", function(x, a) return nn.cat({ table.unpack(x, 1, x.n) }, dim(a.axis)) end)
op("Expand", function(x) -- ONNX's shape broadcasts with that of x
  local shape, own = list(x[2]), x[1]:shape()
  for i = 0, #own - 1 do
    local k = #shape - i
    if k < 1 then table.insert(shape, 1, own[#own - i]) elseif shape[k] == 1 then shape[k] = own[#own - i] end
  end
  return nn.expand(x[1], shape)
end)
op("Flatten", function(x, a)
  local axis, y = a.axis or 1, x[1]
  if axis < 0 then axis = axis + y:dim() end
  if axis == 0 then return nn.flatten(y):unsqueeze(1) end
  if axis < y:dim() then y = nn.flatten(y, axis + 1, -1) else y = y:unsqueeze(-1) end
  return nn.flatten(y, 1, axis)
end)
op("Reshape", function(x, a)
  local shape = list(x[2])
  for i, n in ipairs(shape) do
    if n == 0 and a.allowzero ~= 1 then shape[i] = x[1]:size(i) end
  end
  return nn.reshape(x[1], shape)
end)
op("Squeeze", function(x, a)
  local axes = x[2] and list(x[2]) or a.axes
  return nn.squeeze(x[1], axes and dims(axes) or nil)
end)
op("Unsqueeze", function(x, a)
  local axes, n = x[2] and list(x[2]) or { table.unpack(a.axes) }, x[1]:dim()
  for i, d in ipairs(axes) do axes[i] = d < 0 and d + n + #axes or d end
  table.sort(axes)
  local y = x[1]
  for _, d in ipairs(axes) do y = nn.unsqueeze(y, d + 1) end
  return y
end)
op("Transpose", function(x, a)
  local order = a.perm and dims(a.perm) or {}
  if not a.perm then
    for d = x[1]:dim(), 1, -1 do order[#order + 1] = d end
  end
  return nn.permute(x[1], order)
end)
op("Tile", function(x) return nn.tile(x[1], list(x[2])) end)
op("Shape", function(x, a)
  local shape = x[1]:shape()
  local n, from, to = #shape, a.start or 0, a["end"] or #shape
  if from < 0 then from = math.max(from + n, 0) end
  if to < 0 then to = to + n end
  local out = table.move(shape, from + 1, math.min(to, n), 1, {})
  return #out == 0 and nn.zeros({ 0 }, "i64") or nn.tensor(out, { dtype = "i64" })
end)
op("Size", function(x) return nn.tensor(x[1]:numel(), { dtype = "i64" }) end)
op("Split", function(x, a, node)
  local d = dim(a.axis or 0)
  local n, many = x[1]:size(d), #node.outputs
  local sizes = x[2] and list(x[2]) or a.split or (n + many - 1) // many
  return table.unpack(nn.split(x[1], sizes, d))
end)
op("Slice", function(x, a)
  local y, axes = x[1], x[4] and list(x[4]) or a.axes
  local starts, ends, steps = a.starts or list(x[2]), a.ends or list(x[3]), x[5] and list(x[5]) or nil
  local start, size, step, turned = fill(y:dim(), 1), y:shape(), fill(y:dim(), 1), {}
  for i = 1, #starts do
    local d = dim(axes and axes[i] or i - 1)
    if d < 0 then d = d + y:dim() + 1 end
    local n, s, from, to = y:size(d), steps and steps[i] or 1, starts[i], ends[i]
    if from < 0 then from = from + n end
    if to < 0 then to = math.max(to + n, -1) end
    if s > 0 then
      from, to = math.max(0, math.min(from, n)), math.max(0, math.min(to, n))
      start[d], size[d], step[d] = from + 1, math.max(0, (to - from + s - 1) // s), s
      if size[d] == 0 then start[d] = 1 end
    else -- backwards: the same elements forwards, then turned
      from = math.min(from, n - 1)
      local count = math.max(0, (from - to - s - 1) // -s)
      start[d], size[d], step[d] = from + (count - 1) * s + 1, count, -s
      turned[#turned + 1] = d
    end
  end
  y = nn.slice(y, start, size, step)
  if #turned == 0 then return y end
  return nn.flip(y, turned)
end)
op("Pad", function(x, a)
  assert(not x[4], "Pad with axes")
  local p, pads = x[2] and list(x[2]) or a.pads, {}
  local n = #p // 2
  for d = n, 1, -1 do pads[#pads + 1], pads[#pads + 2] = p[d], p[n + d] end
  return nn.pad(x[1], pads, { mode = a.mode == "edge" and "replicate" or a.mode, value = x[3] and x[3]:item() or a.value or 0 })
end)
op("Trilu", function(x, a) return nn[a.upper == 0 and "tril" or "triu"](x[1], x[2] and list(x[2])[1] or 0) end)
op("EyeLike", function(x, a)
  local rows, cols = x[1]:size()
  local k = a.k or 0
  local y = k == 0 and nn.eye(rows, cols) or nn.tri(rows, cols, k) - nn.tri(rows, cols, k - 1)
  return y:to(dtypes[a.dtype] or x[1]:dtype())
end)
op("Range", function(x) return nn.arange(x[1]:item(), x[2]:item(), x[3]:item(), x[1]:dtype()) end)
op("ConstantOfShape", function(x, a)
  local v = a.value and a.value.tensor
  return nn.full(list(x[1]), v and v:item() or 0, { dtype = v and v:dtype() or "f32" })
end)
op("DepthToSpace", function(x, a) return first(nn.pixel_shuffle(last(x[1]), a.blocksize, (a.mode or "DCR"):lower())) end)
op("SpaceToDepth", function(x, a) return first(nn.pixel_unshuffle(last(x[1]), a.blocksize, "dcr")) end)

-- ---- positions ------------------------------------------------------------------------------------------------------
op("Gather", function(x, a)
  local d, shape = dim(a.axis or 0), {}
  for i, n in ipairs(x[1]:shape()) do
    if i == d then table.move(x[2]:shape(), 1, x[2]:dim(), #shape + 1, shape) else shape[#shape + 1] = n end
  end
  return nn.index_select(x[1], d, position(x[2], x[1]:size(d)):reshape(-1)):reshape(shape)
end)
op("GatherElements", function(x, a)
  local d = dim(a.axis or 0)
  return nn.gather(x[1], d, position(x[2], x[1]:size(d)))
end)
-- tuples of ONNX's positions of the dims of x behind `batch` ones, to ours
local function tuples(ids, x, batch)
  local sizes = table.move(x:shape(), batch + 1, batch + ids:size(-1), 1, {})
  return position(ids, nn.tensor(sizes, { dtype = "i64" }))
end
local reductions = { add = "sum", mul = "prod", min = "amin", max = "amax" }
op("GatherND", function(x, a)
  local batch = a.batch_dims or 0
  return nn.gather_nd(x[1], tuples(x[2], x[1], batch), batch)
end)
op("Scatter ScatterElements", function(x, a)
  local d = dim(a.axis or 0)
  local ids, how = position(x[2], x[1]:size(d)), reductions[a.reduction]
  if how then return nn.scatter_reduce(x[1], d, ids, x[3], how) end
  return nn.scatter(x[1], d, ids, x[3])
end)
op("ScatterND", function(x, a)
  local ids, how = tuples(x[2], x[1], 0), reductions[a.reduction]
  if how then return nn.scatter_nd_reduce(x[1], ids, x[3], how) end
  return nn.scatter_nd(x[1], ids, x[3])
end)
op("NonZero", function(x) return counted(nn.nonzero(x[1]):transpose()) end)
op("Compress", function(x, a)
  local y = a.axis and x[1] or nn.flatten(x[1])
  return nn.index_select(y, a.axis and dim(a.axis) or 1, nn.nonzero(x[2]):reshape(-1))
end)
op("TopK", function(x, a)
  local v, i = nn.topk(x[1], x[2] and list(x[2])[1] or a.k, { dim = dim(a.axis or -1), largest = a.largest ~= 0, sorted = a.sorted ~= 0 })
  return v, counted(i)
end)
op("Unique", function(x, a)
  local v, where, counts, at = nn.unique(x[1], { dim = a.axis and dim(a.axis), sorted = a.sorted ~= 0 })
  return v, counted(at), counted(where):reshape(-1), counts
end)
op("OneHot", function(x, a)
  local depth, values = math.tointeger(x[2]:item()), list(x[3])
  local y = nn.one_hot(position(x[1]:long(), depth), depth)
  if a.axis and a.axis ~= -1 then y = nn.movedim(y, -1, dim(a.axis)) end
  return (y * (values[2] - values[1]) + values[1]):to(x[3]:dtype())
end)

-- ---- linear algebra -------------------------------------------------------------------------------------------------
op("Gemm", function(x, a)
  local p, q = a.transA == 1 and x[1]:transpose() or x[1], a.transB == 1 and x[2]:transpose() or x[2]
  if not x[3] then return nn.matmul(p, q) end
  return nn.addmm(x[3], p, q, { alpha = a.alpha or 1, beta = a.beta or 1 })
end)
op("Einsum", function(x, a) return nn.einsum(a.equation, table.unpack(x, 1, x.n)) end)
op("Det", function(x) return nn.det(x[1]) end)

-- ---- layer normalization ------------------------------------------------------------------------------------------------
op("LayerNormalization", function(x, a)
  local axis, shape, over = a.axis or -1, {}, {}
  if axis < 0 then axis = axis + x[1]:dim() end
  for d = axis + 1, x[1]:dim() do shape[#shape + 1], over[#over + 1] = x[1]:size(d), d end
  local eps = a.epsilon or 1e-5
  local deviation = nn.rsqrt(nn.var(x[1], { dim = over, correction = 0, keepdim = true }) + eps)
  return nn.layer_norm(x[1], shape, x[2], x[3], eps), nn.mean(x[1], over, true), deviation
end)

-- ---- recurrent: ONNX's X (T, N, C), W (1, G H, C), R (1, G H, H), B (1, 2 G H), gates in another order --------------
local function gates(w, order) -- rows of (G H, ...) in our order, turned to columns
  local size, parts = w:size(1) // #order, {}
  for i, k in ipairs(order) do
    local start, count = fill(w:dim(), 1), w:shape()
    start[1], count[1] = (k - 1) * size + 1, size
    parts[i] = nn.slice(w, start, count, fill(w:dim(), 1))
  end
  local y = nn.cat(parts, 1)
  return y:dim() == 2 and y:transpose() or y
end
-- what lengths, states and peepholes a case gives
local function recurrent(name, order, run)
  op(name, function(x, a)
    local batch_first, weights, wide = a.layout == 1, { w_ih = gates(x[2][1], order), w_hh = gates(x[3][1], order) }, x[2]:size(2)
    if x[4] then
      weights.b_ih = gates(nn.slice(x[4][1], { 1 }, { wide }, { 1 }), order)
      weights.b_hh = gates(nn.slice(x[4][1], { wide + 1 }, { wide }, { 1 }), order)
    end
    local input = batch_first and x[1] or x[1]:permute(2, 1, 3)
    assert(x[2]:size(1) == 1 and (a.direction or "forward") == "forward" and not a.activations and not a.clip)
    assert(not x[5] or nn.eq(x[5], input:size(2)):all():item(), "sequences of their own length")
    local h0, c0 = x[6], x[7]
    if batch_first then h0, c0 = h0 and h0:permute(2, 1, 3), c0 and c0:permute(2, 1, 3) end
    if x[8] then weights.peephole = gates(x[8][1], { 1, 3, 2 }) end -- i o f -> i f o
    local y, h, c = run(input, weights, h0, a, c0)
    if batch_first then return y:unsqueeze(3), h:permute(2, 1, 3), c and c:permute(2, 1, 3) end
    return y:permute(2, 1, 3):unsqueeze(2), h, c
  end)
end
recurrent("LSTM", { 1, 3, 4, 2 }, function(x, w, h, _, c) return nn.lstm(x, w, h and { h, c } or nil) end) -- i o f c -> i f c o
recurrent("GRU", { 2, 1, 3 }, function(x, w, h, a) -- z r h -> r z h
  return nn.gru(x, w, h, { reset_after = a.linear_before_reset == 1 })
end)
recurrent("RNN", { 1 }, function(x, w, h) return nn.rnn(x, w, h) end)

-- ---- losses ---------------------------------------------------------------------------------------------------------
local function class_ids(a, x)
  local ignore = a.ignore_index and a.ignore_index + 1 or nil
  return x[2]:long() + 1, { weight = x[3], reduction = a.reduction or "mean", ignore_id = ignore }
end
op("NegativeLogLikelihoodLoss", function(x, a)
  local ids, o = class_ids(a, x)
  return nn.nll_loss(last(x[1]), ids, o)
end)
op("SoftmaxCrossEntropyLoss", function(x, a)
  local ids, o = class_ids(a, x)
  return nn.cross_entropy(last(x[1]), ids, o), nn.log_softmax(x[1], 2)
end)

-- ---- integers for numbers: zero points and scales --------------------------------------------------------------------
-- a zero point or a scale (one, or one per channel along `axis`) so that it broadcasts with x
local function per_channel(t, x, axis)
  if not t or t:numel() == 1 then return t and t:reshape(fill(0, 1)) or 0 end
  local shape = fill(x:dim(), 1)
  shape[dim(axis or 1)] = t:numel()
  return t:reshape(shape)
end
local function real(x, scale, zero, axis)
  return (x:to "f32" - per_channel(zero, x, axis)) * per_channel(scale, x, axis)
end
local function quantized(y, scale, zero, axis, dtype)
  local q = nn.round(y / per_channel(scale, y, axis)) + per_channel(zero, y, axis)
  return (dtype == "u8" and q:clamp(0, 255) or q:clamp(-128, 127)):to(dtype)
end
op("DequantizeLinear", function(x, a) return real(x[1], x[2], x[3], a.axis) end)
op("QuantizeLinear", function(x, a) return quantized(x[1], x[2], x[3], a.axis, x[3]:dtype()) end)
op("DynamicQuantizeLinear", function(x)
  local low, high = nn.clamp(nn.amin(x[1]), -math.huge, 0), nn.clamp(nn.amax(x[1]), 0, math.huge)
  local scale = (high - low) / 255
  local zero = nn.round(nn.clamp(-low / scale, 0, 255))
  return quantized(x[1], scale, zero, nil, "u8"), scale, zero:to "u8"
end)
op("MatMulInteger", function(x)
  return nn.matmul(real(x[1], nn.ones(1), x[3], -2), real(x[2], nn.ones(1), x[4], -1)):to "i32"
end)
op("QLinearMatMul", function(x)
  local y = nn.matmul(real(x[1], x[2], x[3], -2), real(x[4], x[5], x[6], -1))
  return quantized(y, x[7], x[8], nil, x[8]:dtype())
end)
op("ConvInteger", function(x, a)
  return ops.Conv({ n = 2, real(x[1], nn.ones(1), x[3]), real(x[2], nn.ones(1), x[4], 0) }, a):to "i32"
end)
op("QLinearConv", function(x, a)
  local y = ops.Conv({ n = 3, real(x[1], x[2], x[3]), real(x[4], x[5], x[6], 0), x[9] }, a)
  return quantized(y, x[7], x[8], nil, x[8]:dtype())
end)

op("Dropout", function(x) -- outside training
  return x[1], nn.ne(x[1] * 0, 1)
end)

return ops
