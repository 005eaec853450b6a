--- Convolutions beside the core's conv2d, channels last: conv1d, conv3d and the transposed ones.
--
-- Owns: how they are made of conv2d and its input gradient, which are differentiable to any order. Kernels: (..., C / groups, filters) for a
-- convolution; a transposed convolution is the gradient of one, so its kernel is (..., filters / groups, C), as in Keras.
-- Letters: N batch, D H W image or L length, C channels, K kernel.

local core = require "nnlua.core"
local define = require "nnlua.functional.define"
local shapes = require "nnlua.functional.shapes"

local M = {}

local function need_dims(owner, x, w, n)
  if x:dim() ~= n + 2 or w:dim() ~= n + 2 then
    local names = { "L", "H, W", "D, H, W" }
    define.fail(owner, "an input (N, %s, C) and a kernel with %d dims are needed, got (%s) and (%s)", names[n], n + 2,
      define.shape_text(x), define.shape_text(w))
  end
end

-- One axis as conv2d wants it: words stay, numbers become the pads of a height of 1.
local function flat_padding(padding) return type(padding) == "string" and padding or { 0, padding[1], 0, padding[2] } end

--- Convolution of sequences x (N, L, C) with w (K, C / groups, filters), plus b (filters).
--
--     local nn = require "nnlua"
--     local x = nn.tensor{ {{1}, {2}, {3}, {4}} }        -- one sequence of four numbers
--     local w = nn.tensor{ {{1}}, {{-1}} }               -- x[i] - x[i + 1]
--     print(nn.conv1d(x, w):reshape(-1)[3]:item())       --> -1.0
M.conv1d = define.op(M, "conv1d(T x, T w, T? b, I1 stride = 1, P1 padding = valid, I1 dilation = 1, I groups = 1)",
  "convolution of x (N,L,C) with w (K,C/groups,filters), plus b", function(x, w, b, stride, padding, dilation, groups)
    need_dims("conv1d", x, w, 1)
    local y = core.conv2d(x:unsqueeze(2), w:unsqueeze(1), b, { 1, stride[1] }, flat_padding(padding), { 1, dilation[1] }, groups)
    return y:squeeze(2)
  end)

-- Output size and pads of a window along n elements; "same" covers every element, the odd one behind.
local function window(owner, n, k, stride, padding, i, dilation)
  local extent = dilation * (k - 1) + 1
  local before, after = 0, 0
  if stride < 1 or dilation < 1 then define.fail(owner, "stride and dilation must be at least 1") end
  if padding == "same" then
    local total = math.max(((n + stride - 1) // stride - 1) * stride + extent - n, 0)
    before, after = total // 2, total - total // 2
  elseif padding ~= "valid" then
    before, after = padding[i], padding[i + #padding // 2]
  end
  local out = (n + before + after - extent) // stride + 1
  if math.min(before, after) < 0 or out < 1 then
    define.fail(owner, "a window of %d does not fit %d elements with padding %d+%d", extent, n, before, after)
  end
  return out, before, after
end

local function plane(padding) return type(padding) == "string" and padding or { padding[2], padding[3], padding[5], padding[6] } end

-- w (KD, KH, KW, C, F) -> (KH, KW, KD * C, F)
local function depth_to_channels(w)
  local s = w:shape()
  return w:permute(2, 3, 1, 4, 5):reshape { s[2], s[3], s[1] * s[4], s[5] }
end

--- Convolution of volumes x (N, D, H, W, C) with w (KD, KH, KW, C / groups, filters), plus b (filters).
--
--     local nn = require "nnlua"
--     local y = nn.conv3d(nn.ones(1, 4, 4, 4, 2), nn.ones(3, 3, 3, 2, 5), { padding = 1 })
--     print(y:size())               --> 1  4  4  4  5
--     print(y[1][2][2][2][1]:item()) --> 54.0
M.conv3d = define.op(M, "conv3d(T x, T w, T? b, I3 stride = 1, P3 padding = valid, I3 dilation = 1, I groups = 1)",
  "convolution of x (N,D,H,W,C) with w (KD,KH,KW,C/groups,filters), plus b", function(x, w, b, stride, padding, dilation, groups)
    need_dims("conv3d", x, w, 3)
    local s, kd = x:shape(), w:size(1)
    if groups < 1 or s[5] % groups ~= 0 then define.fail("conv3d", "groups = %d must divide %d channels", groups, s[5]) end
    local out, before, after = window("conv3d", s[2], kd, stride[1], padding, 1, dilation[1])
    x = shapes.pad(x, 2, before, after, 0)
    local taps = {} -- the KD planes that a result needs, as channels of one image: group, tap, channel of the group
    for k = 1, kd do
      taps[k] = shapes.cut(x, 2, (k - 1) * dilation[1] + 1, out, stride[1]):reshape { s[1], out, s[3], s[4], groups, s[5] // groups }
    end
    local image = core.stack(taps, 6):reshape { s[1] * out, s[3], s[4], kd * s[5] }
    local y = core.conv2d(image, depth_to_channels(w), b, { stride[2], stride[3] }, plane(padding), { dilation[2], dilation[3] }, groups)
    local _, h, width, f = y:size()
    return y:reshape { s[1], out, h, width, f }
  end)

-- ---- transposed --------------------------------------------------------------------------------------------------------

-- Size of the result along one axis, the pads of the convolution that it is the gradient of, and how many zeros follow that this convolution never
-- saw.
local function transposed(owner, n, k, stride, padding, i, output_padding, dilation)
  local extent = dilation * (k - 1) + 1
  if stride < 1 or dilation < 1 or output_padding < 0 then define.fail(owner, "stride and dilation must be at least 1, output_padding at least 0") end
  local full = (n - 1) * stride + extent
  local size, before, behind = full + output_padding, 0, 0
  if padding == "same" then
    size, before = n * stride, math.max(extent - stride, 0) // 2
  elseif padding ~= "valid" then
    before, behind = padding[i], padding[i + #padding // 2]
    size = size - before - behind
  end
  if math.min(before, behind) < 0 or size < 1 then define.fail(owner, "padding %d+%d leaves nothing of %d elements", before, behind, full) end
  local after = full - before - size
  return size, before, math.max(after, 0), math.max(-after, 0)
end

local function transpose2d(owner, x, w, o)
  local size, before, after, extra = {}, {}, {}, {}
  for i = 1, 2 do
    size[i], before[i], after[i], extra[i] =
      transposed(owner, x:size(i + 1), w:size(i), o.stride[i], o.padding, i, o.output_padding[i], o.dilation[i])
    size[i] = size[i] - extra[i]
  end
  local y = core.conv2d_dx(x, w, size, o.stride, { before[1], before[2], after[1], after[2] }, o.dilation, o.groups)
  for i = 1, 2 do y = shapes.pad(y, i + 1, 0, extra[i], 0) end
  return y
end

local function with_bias(y, b) return b and y + b or y end

local function check_groups(owner, x, w, groups)
  local c, k = x:size(-1), w:size(-1)
  if c ~= k or groups < 1 or c % groups ~= 0 then
    define.fail(owner, "the last dim of the kernel (%s) must be the input's %d channels, and %d groups must divide them", define.shape_text(w), c,
      groups)
  end
end

local transpose_doc = "gradient of a convolution as an operator: x with w (...,filters/groups,C), plus b; paddings as in PyTorch, or \"same\""

--- Transposed convolution of sequences: x (N, L, C), w (K, filters / groups, C).
--
--     local nn = require "nnlua"
--     local y = nn.conv_transpose1d(nn.tensor{ {{1}, {2}} }, nn.ones(2, 1, 1), { stride = 2 })
--     print(table.concat(y:reshape(-1):totable(), " "))  --> 1.0 1.0 2.0 2.0
M.conv_transpose1d = define.op(M,
  "conv_transpose1d(T x, T w, T? b, I1 stride = 1, P1 padding = valid, I1 output_padding = 0, I groups = 1, I1 dilation = 1)", transpose_doc,
  function(x, w, b, stride, padding, output_padding, groups, dilation)
    need_dims("conv_transpose1d", x, w, 1)
    check_groups("conv_transpose1d", x, w, groups)
    local o = { stride = { 1, stride[1] }, output_padding = { 0, output_padding[1] }, dilation = { 1, dilation[1] }, groups = groups,
      padding = flat_padding(padding) }
    return with_bias(transpose2d("conv_transpose1d", x:unsqueeze(2), w:unsqueeze(1), o):squeeze(2), b)
  end)

--- Transposed convolution of images: x (N, H, W, C), w (KH, KW, filters / groups, C).
--
--     local nn = require "nnlua"
--     local y = nn.conv_transpose2d(nn.ones(1, 8, 8, 3), nn.ones(3, 3, 4, 3), { stride = 2, padding = 1, output_padding = 1 })
--     print(y:size())  --> 1  16  16  4
M.conv_transpose2d = define.op(M,
  "conv_transpose2d(T x, T w, T? b, I2 stride = 1, P2 padding = valid, I2 output_padding = 0, I groups = 1, I2 dilation = 1)", transpose_doc,
  function(x, w, b, stride, padding, output_padding, groups, dilation)
    need_dims("conv_transpose2d", x, w, 2)
    check_groups("conv_transpose2d", x, w, groups)
    local o = { stride = stride, padding = padding, output_padding = output_padding, dilation = dilation, groups = groups }
    return with_bias(transpose2d("conv_transpose2d", x, w, o), b)
  end)

--- Transposed convolution of volumes: x (N, D, H, W, C), w (KD, KH, KW, filters / groups, C).
--
--     local nn = require "nnlua"
--     local y = nn.conv_transpose3d(nn.ones(1, 2, 2, 2, 3), nn.ones(2, 2, 2, 4, 3), { stride = 2 })
--     print(y:size())  --> 1  4  4  4  4
M.conv_transpose3d = define.op(M,
  "conv_transpose3d(T x, T w, T? b, I3 stride = 1, P3 padding = valid, I3 output_padding = 0, I groups = 1, I3 dilation = 1)", transpose_doc,
  function(x, w, b, stride, padding, output_padding, groups, dilation)
    need_dims("conv_transpose3d", x, w, 3)
    check_groups("conv_transpose3d", x, w, groups)
    local s, kd, f = x:shape(), w:size(1), w:size(4)
    local function rest(t) return { t[2], t[3] } end
    local o = { stride = rest(stride), padding = plane(padding), output_padding = rest(output_padding),
      dilation = rest(dilation), groups = groups }
    local size, before, _, extra = transposed("conv_transpose3d", s[2], kd, stride[1], padding, 1, output_padding[1], dilation[1])
    local planes = transpose2d("conv_transpose3d", x:reshape { s[1] * s[2], s[3], s[4], s[5] }, depth_to_channels(w), o)
    local _, h, width = planes:size()
    planes = planes:reshape { s[1], s[2], h, width, groups, kd, f }
    local full = (s[2] - 1) * stride[1] + dilation[1] * (kd - 1) + 1
    local y
    for k = 1, kd do -- each tap's planes at their places; taps overlap and add
      local tap = shapes.cut(planes, 6, k, 1):reshape { s[1], s[2], h, width, groups * f }
      tap = shapes.place(tap, 2, (k - 1) * dilation[1] + 1, stride[1], full)
      y = y and y + tap or tap
    end
    y = shapes.pad(shapes.cut(y, 2, before + 1, size - extra), 2, 0, extra, 0)
    return with_bias(y, b)
  end)

return M
