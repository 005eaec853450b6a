-- How ONNX's operators are said with ours, for onnx_spec.lua.
--
-- operators[ONNX name] = { needs = { names in nn }, run = function(x, a, case) return results... end, skip = { [k] = "why result k is not ours" } }
-- x: input tensors (nil where absent, x.n of them), a: attributes. Results, in ONNX's order, are tensors or { shape =, values =, dtype = }; ONNX
-- counts dims and positions from 0 and has channels second: both are turned here. A case that needs a dtype we lack calls M.missing(what).
-- outside: operators that are not in our catalogue. excluded: single cases, with the reason.
local nn = require "nnlua"

local M = { operators = {}, outside = {}, excluded = {} }
local ops = M.operators

-- Raised by a case that can't run yet.
function M.missing(what) error(setmetatable({ missing = what }, { __tostring = function() return "needs " .. what end }), 0) end

local function op(names, needs, run, skip)
  for name in names:gmatch "%w+" do
    local list = {}
    for n in needs:gmatch "[%w_]+" do list[#list + 1] = n end
    ops[name] = { needs = list, run = run, skip = skip or {} }
  end
end

-- ---- helpers --------------------------------------------------------------------------------------------------------
local function dim(d) return d >= 0 and d + 1 or d end -- 0-based -> 1-based
local function dims(list)
  local out = {}
  for i, d in ipairs(list) do out[i] = dim(d) end
  return out
end
local function flat(t, into)
  into = into or {}
  if type(t) ~= "table" then
    into[#into + 1] = t
  else
    for _, v in ipairs(t) do flat(v, into) end
  end
  return into
end
-- integers of a tensor as a list
local function list(t)
  local out = t:dim() == 0 and { t:item() } or flat(t:totable())
  for i, v in ipairs(out) do out[i] = math.tointeger(v) or v end
  return out
end
local function product(shape, from, to)
  local n = 1
  for i = from or 1, to or #shape do n = n * shape[i] end
  return n
end
local function last(x) -- (N, C, ...) -> (N, ..., C)
  local order = { 1 }
  for d = 3, x:dim() do order[#order + 1] = d end
  order[#order + 1] = 2
  return x:permute(order)
end
local function first(x) -- (N, ..., C) -> (N, C, ...)
  local order = { 1, x:dim() }
  for d = 2, x:dim() - 1 do order[#order + 1] = d end
  return x:permute(order)
end
local function position(ids, n) -- ONNX's positions, from -n, to ours
  ids = ids:long()
  return nn.where(ids:lt(0), ids + n, ids) + 1
end
local function counted(ids) return ids - 1 end -- our positions to ONNX's
local function fill(n, v)
  local out = {}
  for i = 1, n do out[i] = v end
  return out
end
local function has(name)
  return (pcall(function() return nn[name] end))
end

-- ---- element by element ---------------------------------------------------------------------------------------------
for onnx, ours in pairs {
  Abs = "abs", Acos = "acos", Acosh = "acosh", Asin = "asin", Asinh = "asinh", Atan = "atan", Atanh = "atanh", Ceil = "ceil", Cos = "cos",
  Cosh = "cosh",
  Erf = "erf", Exp = "exp", Floor = "floor", HardSwish = "hard_swish", IsNaN = "isnan", Log = "log", Neg = "neg", Not = "logical_not",
  Reciprocal = "reciprocal", Relu = "relu", Round = "round", Sigmoid = "sigmoid", Sign = "sign", Sin = "sin", Sinh = "sinh", Softplus = "softplus",
  Softsign = "softsign", Sqrt = "sqrt", Tan = "tan", Tanh = "tanh",
} do op(onnx, ours, function(x) return nn[ours](x[1]) end) end

for onnx, ours in pairs {
  Add = "add", Sub = "sub", Mul = "mul", And = "logical_and", Or = "logical_or", Xor = "logical_xor", Equal = "eq", Greater = "gt",
  GreaterOrEqual = "ge",
  Less = "lt", LessOrEqual = "le", PRelu = "prelu", MatMul = "matmul",
} do op(onnx, ours, function(x) return nn[ours](x[1], x[2]) end) end

op("Div", "div floor_div", function(x) -- of integers: towards 0; the cases have none below 0
  return nn[x[1]:dtype():match "^b?f%d" and "div" or "floor_div"](x[1], x[2])
end)
op("Pow", "pow to", function(x) return nn.pow(x[1], x[2]):to(x[1]:dtype()) end)
op("Mod", "mod fmod", function(x, a) return nn[a.fmod == 1 and "fmod" or "mod"](x[1], x[2]) end)
op("BitShift", "bitwise_left_shift bitwise_right_shift", function(x, a)
  return nn[a.direction == "LEFT" and "bitwise_left_shift" or "bitwise_right_shift"](x[1], x[2])
end)

for onnx, ours in pairs { Max = "maximum", Min = "minimum", Sum = "add" } do
  op(onnx, ours, function(x)
    local y = x[1]
    for i = 2, x.n do y = nn[ours](y, x[i]) end
    return y
  end)
end
op("Mean", "mean stack", function(x) return nn.stack({ table.unpack(x, 1, x.n) }):mean(1) end)

op("Clip", "clamp", function(x) return nn.clamp(x[1], x[2] and x[2]:item() or -math.huge, x[3] and x[3]:item() or math.huge):to(x[1]:dtype()) end)
op("Elu", "elu", function(x, a) return nn.elu(x[1], a.alpha or 1) end)
op("Celu", "celu", function(x, a) return nn.celu(x[1], a.alpha or 1) end)
op("Selu", "selu elu", function(x, a)
  if not a.alpha and not a.gamma then return nn.selu(x[1]) end
  return nn.elu(x[1], a.alpha) * a.gamma -- ours has the constants of the paper
end)
op("LeakyRelu", "leaky_relu", function(x, a) return nn.leaky_relu(x[1], a.alpha or 0.01) end)
op("HardSigmoid", "clamp", function(x, a) return nn.clamp(x[1] * (a.alpha or 0.2) + (a.beta or 0.5), 0, 1) end) -- ours has PyTorch's slope
op("Shrink", "hard_shrink soft_shrink", function(x, a)
  return nn[(a.bias or 0) == 0 and "hard_shrink" or "soft_shrink"](x[1], a.lambd or 0.5) -- the cases have bias = lambd, or none
end)
op("ThresholdedRelu", "threshold", function(x, a) return nn.threshold(x[1], a.alpha or 1, 0) end)
op("IsInf", "isinf", function(x, a)
  local y = nn.isinf(x[1])
  if a.detect_negative == 0 then y = nn.logical_and(y, x[1]:gt(0)) end
  if a.detect_positive == 0 then y = nn.logical_and(y, x[1]:lt(0)) end
  return y
end)
op("Where", "where", function(x) return nn.where(x[1], x[2], x[3]) end)

-- TensorProto's numbers of dtypes
local dtypes = { [1] = "f32", [2] = "u8", [6] = "i32", [7] = "i64", [9] = "bool", [10] = "f16", [11] = "f64", [16] = "bf16" }
local function cast(x, name)
  if not pcall(nn.zeros, { 1 }, name) then M.missing("dtype " .. tostring(name)) end
  return x:to(name)
end
op("Cast", "to", function(x, a) return cast(x[1], dtypes[a.to]) end)
op("CastLike", "to", function(x, _, case) return cast(x[1], case.outputs[1].was or case.outputs[1].dtype) end)

-- ---- reductions -----------------------------------------------------------------------------------------------------
local function reduction(name, needs, f)
  op(name, needs, function(x, a)
    local axes = x[2] and list(x[2]) or a.axes
    if axes and #axes == 0 then axes = nil end
    if not axes and a.noop_with_empty_axes == 1 then return x[1] end
    return f(x[1], axes and dims(axes), a.keepdims ~= 0)
  end)
end
for onnx, ours in pairs {
  ReduceSum = "sum", ReduceMean = "mean", ReduceProd = "prod", ReduceMax = "amax", ReduceMin = "amin", ReduceLogSumExp = "logsumexp",
} do
  reduction(onnx, ours, function(x, d, keep) return nn[ours](x, { dim = d, keepdim = keep }) end)
end
reduction("ReduceL1", "norm", function(x, d, keep) return nn.norm(x, { p = 1, dim = d, keepdim = keep }) end)
reduction("ReduceL2", "norm", function(x, d, keep) return nn.norm(x, { p = 2, dim = d, keepdim = keep }) end)
reduction("ReduceLogSum", "sum log", function(x, d, keep) return nn.log(nn.sum(x, { dim = d, keepdim = keep })) end)
reduction("ReduceSumSquare", "sum square", function(x, d, keep) return nn.sum(nn.square(x), { dim = d, keepdim = keep }) end)
for onnx, ours in pairs { ArgMax = "argmax", ArgMin = "argmin" } do
  op(onnx, ours, function(x, a)
    local d = dim(a.axis or 0)
    if a.select_last_index ~= 1 then return counted(nn[ours](x[1], d, a.keepdims ~= 0)) end
    if not has "flip" then M.missing "flip" end
    return x[1]:size(d) - nn[ours](nn.flip(x[1], d), d, a.keepdims ~= 0)
  end)
end
op("CumSum", "cumsum", function(x, a) return nn.cumsum(x[1], dim(list(x[2])[1]), { exclusive = a.exclusive == 1, reverse = a.reverse == 1 }) end)
op("Softmax", "softmax", function(x, a) return nn.softmax(x[1], dim(a.axis or -1)) end)
op("LogSoftmax", "log_softmax", function(x, a) return nn.log_softmax(x[1], dim(a.axis or -1)) end)

-- ---- shapes ---------------------------------------------------------------------------------------------------------
op("Concat", "cat", function(x, a) return nn.cat({ table.unpack(x, 1, x.n) }, dim(a.axis)) end)
op("Expand", "expand", function(x) -- ONNX's shape broadcasts with that of x
  local shape, own = list(x[2]), x[1]:shape()
  for i = 0, #own - 1 do
    local k = #shape - i
    if k < 1 then table.insert(shape, 1, own[#own - i]) elseif shape[k] == 1 then shape[k] = own[#own - i] end
  end
  return nn.expand(x[1], shape)
end)
op("Flatten", "flatten", function(x, a)
  local axis, y = a.axis or 1, x[1]
  if axis < 0 then axis = axis + y:dim() end
  if axis == 0 then return nn.flatten(y):unsqueeze(1) end
  if axis < y:dim() then y = nn.flatten(y, axis + 1, -1) else y = y:unsqueeze(-1) end
  return nn.flatten(y, 1, axis)
end)
op("Reshape", "reshape", function(x, a)
  local shape = list(x[2])
  for i, n in ipairs(shape) do
    if n == 0 and a.allowzero ~= 1 then shape[i] = x[1]:size(i) end
  end
  return nn.reshape(x[1], shape)
end)
op("Squeeze", "squeeze", function(x) return nn.squeeze(x[1], x[2] and dims(list(x[2])) or nil) end)
op("Unsqueeze", "unsqueeze", function(x)
  local axes, n = list(x[2]), x[1]:dim()
  for i, d in ipairs(axes) do axes[i] = d < 0 and d + n + #axes or d end
  table.sort(axes)
  local y = x[1]
  for _, d in ipairs(axes) do y = nn.unsqueeze(y, d + 1) end
  return y
end)
op("Transpose", "permute", function(x, a)
  local order = a.perm and dims(a.perm) or {}
  if not a.perm then
    for d = x[1]:dim(), 1, -1 do order[#order + 1] = d end
  end
  return nn.permute(x[1], order)
end)
op("Tile", "tile", function(x) return nn.tile(x[1], list(x[2])) end)
op("Split", "split", function(x, a, case)
  local d = dim(a.axis or 0)
  local sizes = x[2] and list(x[2]) or x[1]:size(d) // #case.outputs
  return table.unpack(nn.split(x[1], sizes, d))
end)
op("Slice", "slice", function(x)
  local y, axes = x[1], x[4] and list(x[4]) or nil
  local starts, ends, steps = list(x[2]), list(x[3]), x[5] and list(x[5]) or nil
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
  if not has "flip" then M.missing "flip" end
  return nn.flip(y, turned)
end)
op("Pad", "pad", function(x, a)
  local p, pads = list(x[2]), {}
  local n = #p // 2
  for d = n, 1, -1 do pads[#pads + 1], pads[#pads + 2] = p[d], p[n + d] end
  return nn.pad(x[1], pads, { mode = a.mode == "edge" and "replicate" or a.mode, value = x[3] and x[3]:item() or 0 })
end)
op("Trilu", "tril triu", function(x, a) return nn[a.upper == 0 and "tril" or "triu"](x[1], x[2] and list(x[2])[1] or 0) end)
op("EyeLike", "tri eye", function(x, a)
  local rows, cols = x[1]:size()
  local dtype, k = dtypes[a.dtype] or x[1]:dtype(), a.k or 0
  local y = k == 0 and nn.eye(rows, cols) or nn.tri(rows, cols, k) - nn.tri(rows, cols, k - 1)
  return cast(y, dtype)
end)
op("Range", "arange", function(x, _, case) return nn.arange(x[1]:item(), x[2]:item(), x[3]:item(), case.outputs[1].dtype) end)
op("ConstantOfShape", "full", function(x, a, case)
  return nn.full(list(x[1]), a.value and a.value.tensor:item() or 0, { dtype = case.outputs[1].dtype })
end)
op("DepthToSpace", "pixel_shuffle", function(x, a) return first(nn.pixel_shuffle(last(x[1]), a.blocksize)) end)

-- ---- positions ------------------------------------------------------------------------------------------------------
op("Gather", "index_select", function(x, a)
  local d, shape = dim(a.axis or 0), {}
  for i, n in ipairs(x[1]:shape()) do
    if i == d then table.move(x[2]:shape(), 1, x[2]:dim(), #shape + 1, shape) else shape[#shape + 1] = n end
  end
  return nn.index_select(x[1], d, position(x[2], x[1]:size(d)):reshape(-1)):reshape(shape)
end)
op("GatherElements", "gather", function(x, a)
  local d = dim(a.axis or 0)
  return nn.gather(x[1], d, position(x[2], x[1]:size(d)))
end)
op("GatherND", "gather_nd", function(x) return nn.gather_nd(x[1], x[2]:long() + 1) end) -- the cases have no negative positions
op("Scatter ScatterElements", "scatter scatter_add", function(x, a)
  local d = dim(a.axis or 0)
  return nn[a.reduction == "add" and "scatter_add" or "scatter"](x[1], d, position(x[2], x[1]:size(d)), x[3])
end)
op("ScatterND", "scatter_nd", function(x, a) return nn.scatter_nd(x[1], x[2]:long() + 1, x[3], a.reduction == "add") end)
op("NonZero", "nonzero", function(x) return counted(nn.nonzero(x[1]):transpose()) end)
op("Compress", "nonzero index_select flatten", function(x, a)
  local y = a.axis and x[1] or nn.flatten(x[1])
  return nn.index_select(y, a.axis and dim(a.axis) or 1, nn.nonzero(x[2]):reshape(-1))
end)
op("TopK", "topk", function(x, a)
  local v, i = nn.topk(x[1], list(x[2])[1], { dim = dim(a.axis or -1), largest = a.largest ~= 0, sorted = a.sorted ~= 0 })
  return v, counted(i)
end)
op("Unique", "unique", function(x)
  local v, where, counts = nn.unique(x[1])
  return v, nil, counted(where):reshape(-1), counts
end, { [2] = "where each value comes first is no result of ours" })
op("OneHot", "one_hot movedim", function(x, a)
  local depth, values = math.tointeger(x[2]:item()), list(x[3])
  local y = nn.one_hot(position(x[1]:long(), depth), depth)
  if a.axis and a.axis ~= -1 then y = nn.movedim(y, -1, dim(a.axis)) end
  return (y * (values[2] - values[1]) + values[1]):to(x[3]:dtype())
end)

-- ---- linear algebra -------------------------------------------------------------------------------------------------
op("Gemm", "addmm matmul", function(x, a)
  local p, q = a.transA == 1 and x[1]:transpose() or x[1], a.transB == 1 and x[2]:transpose() or x[2]
  if not x[3] then return nn.matmul(p, q) end
  return nn.addmm(x[3], p, q, { alpha = a.alpha or 1, beta = a.beta or 1 })
end)
op("Einsum", "einsum", function(x, a) return nn.einsum(a.equation, table.unpack(x, 1, x.n)) end)
op("Det", "det", function(x) return nn.det(x[1]) end)

-- ---- convolution and pooling ----------------------------------------------------------------------------------------
-- what ONNX's attributes say about each spatial dim: { before, after } pads
local function pads_of(a, x, kernel, strides, dilations)
  local out, n = {}, #kernel
  for i = 1, n do
    if (a.auto_pad or "NOTSET"):match "^SAME" then
      local size, extent = x:size(i + 2), (kernel[i] - 1) * dilations[i] + 1
      local all = math.max(((size + strides[i] - 1) // strides[i] - 1) * strides[i] + extent - size, 0)
      local low = a.auto_pad == "SAME_UPPER" and all // 2 or all - all // 2
      out[i] = { low, all - low }
    else
      out[i] = a.pads and { a.pads[i], a.pads[n + i] } or { 0, 0 }
    end
  end
  return out
end
-- x (N, ..., C) with borders of value
local function bordered(x, pads, value)
  local given, any = { 0, 0 }, false
  for i = #pads, 1, -1 do
    given[#given + 1], given[#given + 2] = pads[i][1], pads[i][2]
    any = any or pads[i][1] + pads[i][2] > 0
  end
  if not any then return x end
  if not has "pad" then M.missing "pad" end
  return nn.pad(x, given, { value = value })
end
local function spatial(w) -- (O, I, ...) -> (..., I, O)
  local order = {}
  for d = 3, w:dim() do order[#order + 1] = d end
  order[#order + 1], order[#order + 2] = 2, 1
  return w:permute(order)
end
local function named(text, n)
  local name = text .. n .. "d"
  if not has(name) then M.missing(name) end
  return nn[name]
end
local function window(x, a, kernel)
  local n = #kernel
  local strides, dilations = a.strides or fill(n, 1), a.dilations or fill(n, 1)
  return n, strides, dilations, pads_of(a, x, kernel, strides, dilations)
end

op("Conv", "conv2d", function(x, a)
  local kernel = { table.unpack(x[2]:shape(), 3) }
  local n, strides, dilations, pads = window(x[1], a, kernel)
  local o = { stride = strides, dilation = dilations, groups = a.group or 1 }
  local y = last(x[1])
  if n == 2 then o.padding = { pads[1][1], pads[2][1], pads[1][2], pads[2][2] } else y = bordered(y, pads, 0) end
  return first(named("conv", n)(y, spatial(x[2]), x[3], o))
end)
op("ConvTranspose", "conv_transpose2d", function(x, a)
  local kernel = { table.unpack(x[2]:shape(), 3) }
  local n, strides, dilations = window(x[1], a, kernel)
  local groups, extra = a.group or 1, a.output_padding or fill(n, 0)
  -- w (C, filters / groups, ...) -> (..., filters / groups, C); the full result, then cut to what pads or the wanted size leave
  local o = { stride = strides, dilation = dilations, groups = groups, output_padding = extra }
  local full = named("conv_transpose", n)(last(x[1]), spatial(x[2]), x[3], o)
  local start, size = fill(n + 2, 1), full:shape()
  for i = 1, n do
    local have = size[i + 1]
    local low, high = a.pads and a.pads[i] or 0, a.pads and a.pads[n + i] or 0
    local same = (a.auto_pad or ""):match "^SAME"
    local want = a.output_shape and a.output_shape[i] or same and x[1]:size(i + 2) * strides[i]
    if want then
      local cut = have - want
      if cut < 0 then -- wider than all taps reach: zeros behind
        local more = {}
        for k = 1, n do more[k] = { 0, k == i and -cut or 0 } end
        full, cut = bordered(full, more, 0), 0
      end
      low = a.auto_pad == "SAME_UPPER" and cut // 2 or cut - cut // 2
      high = cut - low
      have = want + cut
    end
    start[i + 1], size[i + 1] = low + 1, have - low - high
  end
  return first(nn.slice(full, start, size, fill(n + 2, 1)))
end)

-- the plain pooling call where pads are even and at most half a window, else borders first
local function fits(pads, kernel)
  local out = {}
  for i, p in ipairs(pads) do
    if p[1] ~= p[2] or p[1] > kernel[i] // 2 then return nil end
    out[i] = p[1]
  end
  return out
end
op("MaxPool", "max_pool2d max_pool1d", function(x, a, case)
  local kernel = a.kernel_shape
  local n, strides, dilations, pads = window(x[1], a, kernel)
  local even, y = fits(pads, kernel), last(x[1])
  local o = { stride = strides, dilation = dilations, ceil_mode = a.ceil_mode == 1, padding = even or "valid", return_indices = #case.outputs > 1 }
  if not even then y = bordered(y, pads, x[1]:dtype() == "u8" and 0 or -math.huge) end
  local v, at = named("max_pool", n)(y, kernel, o)
  v = first(v):to(x[1]:dtype())
  if not at then return v end
  at = first(at)
  local h, w, planes = x[1]:size(3), x[1]:size(4), product(at:shape(), 3)
  local ids = flat(at:totable()) -- ONNX's number of an element counts all planes, and may go down columns
  for i, id in ipairs(ids) do
    id = id - 1
    if a.storage_order == 1 then id = id % w * h + id // w end
    ids[i] = id + (i - 1) // planes * h * w
  end
  return v, { shape = at:shape(), values = ids, dtype = "i64" }
end)
op("MaxUnpool", "max_unpool2d", function(x, a)
  assert(x[1]:size(1) == 1 and x[1]:size(2) == 1) -- so that positions in all planes are those in the one
  local y = nn.max_unpool2d(last(x[1]), last(x[2]:long() + 1), a.kernel_shape, { stride = a.strides })
  local size = x[3] and list(x[3]) -- behind what the windows cover are zeros
  return first(size and bordered(y, { { 0, size[3] - y:size(2) }, { 0, size[4] - y:size(3) } }, 0) or y)
end)
op("AveragePool", "avg_pool2d avg_pool1d", function(x, a)
  local kernel = a.kernel_shape
  local n, strides, _, pads = window(x[1], a, kernel)
  local pool, even, y = named("avg_pool", n), fits(pads, kernel), last(x[1])
  local o = { stride = strides, ceil_mode = a.ceil_mode == 1, padding = even or "valid", count_include_pad = a.count_include_pad == 1 }
  if even then return first(pool(y, kernel, o)) end
  local sum = pool(bordered(y, pads, 0), kernel, o)
  if a.count_include_pad ~= 1 then sum = sum / pool(bordered(y * 0 + 1, pads, 0), kernel, o) end
  return first(sum)
end)
op("GlobalAveragePool", "adaptive_avg_pool2d", function(x) return first(nn.adaptive_avg_pool2d(last(x[1]), 1)) end)
op("GlobalMaxPool", "adaptive_max_pool2d", function(x) return first((nn.adaptive_max_pool2d(last(x[1]), 1))) end)

-- ---- normalization --------------------------------------------------------------------------------------------------
op("BatchNormalization", "batch_norm", function(x, a)
  local eps = a.epsilon or 1e-5
  if a.training_mode ~= 1 then return first(nn.batch_norm(last(x[1]), x[4], x[5], x[2], x[3], { eps = eps })) end
  return first(nn.batch_norm(last(x[1]), nil, nil, x[2], x[3], { training = true, eps = eps }))
end, { [2] = "running statistics follow the unbiased variance, as in PyTorch", [3] = "as the mean" })
op("InstanceNormalization", "instance_norm", function(x, a)
  return first(nn.instance_norm(last(x[1]), nil, nil, x[2], x[3], { eps = a.epsilon or 1e-5 }))
end)
op("LayerNormalization", "layer_norm", function(x, a)
  local axis, shape = a.axis or -1, {}
  if axis < 0 then axis = axis + x[1]:dim() end
  for d = axis + 1, x[1]:dim() do shape[#shape + 1] = x[1]:size(d) end
  return nn.layer_norm(x[1], shape, x[2], x[3], a.epsilon or 1e-5)
end, { [2] = "the mean is no result of ours", [3] = "nor the deviation" })
op("LRN", "local_response_norm", function(x, a)
  return first(nn.local_response_norm(last(x[1]), a.size, a.alpha or 1e-4, a.beta or 0.75, a.bias or 1))
end)
op("Dropout", "dropout", function(x)
  local p, training = x[2] and x[2]:item() or 0.5, x[3] and x[3]:item() == true or x[3] and x[3]:item() == 1
  local y = training and nn.dropout(x[1], p) or x[1]
  return y, nn.ne(x[1] * 0, 1) -- nothing is dropped in the cases that are not excluded
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
local function recurrent(name, order, run)
  op(name, name:lower(), function(x, a)
    local batch_first, weights, wide = a.layout == 1, { w_ih = gates(x[2][1], order), w_hh = gates(x[3][1], order) }, x[2]:size(2)
    if x[4] then
      weights.b_ih = gates(nn.slice(x[4][1], { 1 }, { wide }, { 1 }), order)
      weights.b_hh = gates(nn.slice(x[4][1], { wide + 1 }, { wide }, { 1 }), order)
    end
    local y, h, c = run(batch_first and x[1] or x[1]:permute(2, 1, 3), weights, x, a)
    if batch_first then return y:unsqueeze(3), h:permute(2, 1, 3), c and c:permute(2, 1, 3) end
    return y:permute(2, 1, 3):unsqueeze(2), h, c
  end)
end
recurrent("LSTM", { 1, 3, 4, 2 }, function(x, w) return nn.lstm(x, w) end) -- i o f c -> i f c o
recurrent("GRU", { 2, 1, 3 }, function(x, w) return nn.gru(x, w) end) -- z r h -> r z h
recurrent("RNN", { 1 }, function(x, w) return nn.rnn(x, w) end)

-- ---- resampling -----------------------------------------------------------------------------------------------------
op("Resize Upsample", "interpolate", function(x, a, case)
  local kind = ({ nearest = case.op == "Upsample" and "nearest" or "nearest-exact", linear = "bilinear", cubic = "bicubic" })[a.mode or "nearest"]
  local o = { mode = kind, align_corners = a.coordinate_transformation_mode == "align_corners" or nil }
  if case.op == "Upsample" then
    o.scale = { table.unpack(list(x[2]), 3) }
  elseif x[3] then
    o.scale = { table.unpack(list(x[3]), 3) }
  else
    o.size = { table.unpack(list(x[4]), 3) }
  end
  return first(nn.interpolate(last(x[1]), o))
end)
op("GridSample", "grid_sample", function(x, a)
  local o = { mode = a.mode or "bilinear", padding = a.padding_mode or "zeros", align_corners = a.align_corners == 1 }
  return first(nn.grid_sample(last(x[1]), x[2], o))
end)

-- ---- losses ---------------------------------------------------------------------------------------------------------
local function class_ids(a, x)
  local ignore = a.ignore_index and a.ignore_index + 1 or nil
  return x[2]:long() + 1, { weight = x[3], reduction = a.reduction or "mean", ignore_id = ignore }
end
op("NegativeLogLikelihoodLoss", "nll_loss", function(x, a)
  local ids, o = class_ids(a, x)
  return nn.nll_loss(last(x[1]), ids, o)
end)
op("SoftmaxCrossEntropyLoss", "cross_entropy log_softmax", function(x, a)
  local ids, o = class_ids(a, x)
  return nn.cross_entropy(last(x[1]), ids, o), nn.log_softmax(x[1], 2)
end)

-- ---- what is left out -----------------------------------------------------------------------------------------------
for name in ([[Adagrad Adam Momentum BlackmanWindow HammingWindow HannWindow Constant ConvInteger DFT STFT DequantizeLinear DynamicQuantizeLinear
  QuantizeLinear QLinearConv QLinearMatMul MatMulInteger Hardmax Identity If Loop Scan MeanVarianceNormalization MelWeightMatrix NonMaxSuppression
  OptionalGetElement OptionalHasElement ReverseSequence RoiAlign SequenceInsert SequenceMap Shape Size SpaceToDepth StringNormalizer
  TfIdfVectorizer]]):gmatch "%w+" do
  M.outside[name] = true
end

local function exclude(reason, ...)
  for _, name in ipairs { ... } do M.excluded["test_" .. name] = reason end
end
exclude("random: another generator gives other draws", "bernoulli", "bernoulli_double", "bernoulli_seed", "training_dropout", "training_dropout_mask",
  "training_dropout_default", "training_dropout_default_mask", "dropout_random_old")
ops.Bernoulli = { needs = { "bernoulli" }, skip = {} }
exclude("cut off; ours rounds to the nearest", "cast_FLOAT_to_BFLOAT16", "castlike_FLOAT_to_BFLOAT16")
exclude("text", "cast_FLOAT_to_STRING", "cast_STRING_to_FLOAT", "castlike_FLOAT_to_STRING", "castlike_STRING_to_FLOAT")
exclude("batch dims of gather_nd", "gathernd_example_int32_batch_dim1")
exclude("scatter_nd multiplies nothing", "scatternd_multiply")
exclude("unique of slices, or unsorted", "unique_not_sorted_without_axis", "unique_sorted_with_axis", "unique_sorted_with_axis_3d",
  "unique_sorted_with_negative_axis")
exclude("the reset gate before the product; ours is behind it, as in PyTorch", "gru_seq_length")
exclude("peepholes", "lstm_with_peepholes")
exclude("channels in depth-column-row order; ours are PyTorch's", "depthtospace_example")
exclude("coordinates by the length before it is rounded", "resize_downsample_scales_linear_align_corners",
  "resize_downsample_scales_cubic_align_corners")
exclude("a place between two pixels takes the first, ours the second", "resize_upsample_sizes_nearest", "resize_downsample_sizes_nearest")
exclude("a single pixel at the left border, as in old versions of PyTorch", "resize_downsample_sizes_linear_pytorch_half_pixel")
exclude("coordinates that are not PyTorch's", "resize_tf_crop_and_resize", "resize_upsample_scales_cubic_A_n0p5_exclude_outside",
  "resize_downsample_scales_cubic_A_n0p5_exclude_outside", "resize_upsample_scales_cubic_asymmetric",
  "resize_upsample_sizes_nearest_floor_align_corners", "resize_upsample_sizes_nearest_round_prefer_ceil_asymmetric",
  "resize_upsample_sizes_nearest_ceil_half_pixel")

return M
