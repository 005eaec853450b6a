--- Pooling over 1 to 3 spatial dims, channels last (N, ..., C): average, maximum (with positions), adaptive, and un-pooling.
--
-- Owns: pooling windows. They are separable, so each axis is pooled in turn by combining the strided slices that are its taps; those fuse into row
-- programs. The innermost axis comes first: of equal elements the maximum is then the first in row-major order, as in PyTorch.
-- Positions (return_indices) count from 1, row-major within a sample's plane, as max_unpool takes them.

local core = require "nnlua.core"
local define = require "nnlua.functional.define"
local shapes = require "nnlua.functional.shapes"

local M = {}
local inf = math.huge

local function need_dims(owner, x, n)
  if x:dim() ~= n + 2 then
    local names = { "length", "height, width", "depth, height, width" }
    define.fail(owner, "the input must be (batch, %s, channels), its shape is (%s)", names[n],
      define.shape_text(x))
  end
end

-- ---- one axis ----------------------------------------------------------------------------------------------------------

-- A pooling axis: n elements, out windows, pads before and behind. `padding` is "same", or nil when `before` and `after` are given.
local function axis_of(owner, n, k, stride, padding, before, after, dilation, ceil_mode)
  local extent = dilation * (k - 1) + 1
  if k < 1 or stride < 1 or dilation < 1 then define.fail(owner, "size, stride and dilation must be at least 1") end
  local a = { n = n, k = k, stride = stride, dilation = dilation }
  if padding == "same" then
    a.out = (n + stride - 1) // stride
    local total = math.max((a.out - 1) * stride + extent - n, 0)
    a.before, a.after = total // 2, total - total // 2
    return a
  end
  a.before, a.after = before, after
  if math.min(before, after) < 0 or math.max(before, after) > k // 2 then
    define.fail(owner, "padding %d must be between 0 and half of the window's %d", before < 0 and before or math.max(before, after), k)
  end
  if k > shapes.MOST then define.fail(owner, "a window of %d is too large", k) end
  local room = n + before + after - extent
  a.out = (ceil_mode and (room + stride - 1) // stride or room // stride) + 1
  if a.out < 1 then define.fail(owner, "a window of %d does not fit %d elements with padding %d+%d", extent, n, before, after) end
  if ceil_mode and (a.out - 1) * stride >= n + a.before then a.out = a.out - 1 end -- windows start inside or in the padding before
  return a
end

local function axes_of(owner, x, size, stride, padding, dilation, ceil_mode)
  local list = {}
  for i = 1, #size do
    local before, after = 0, 0
    if type(padding) == "table" then before, after = padding[i], padding[#size + i] end
    list[i] = axis_of(owner, x:size(i + 1), size[i], stride and stride[i] or size[i], padding == "same" and padding or nil, before, after,
      dilation and dilation[i] or 1, ceil_mode)
  end
  return list
end

-- x padded with `value` so that all windows of the axis lie inside.
local function padded(x, dim, a, value)
  local after = (a.out - 1) * a.stride + a.dilation * (a.k - 1) + 1 - a.before - a.n
  return shapes.pad(x, dim, a.before, math.max(after, 0), value)
end

-- The k-th element of every window.
local function tap(x, dim, a, k) return shapes.cut(x, dim, (k - 1) * a.dilation + 1, a.out, a.stride) end

-- ---- average -----------------------------------------------------------------------------------------------------------

-- 1 / number of elements that each window counts, per window; a number when all are equal.
local function weights(a, include)
  local list, same = {}, true
  for o = 1, a.out do
    local start = (o - 1) * a.stride - a.before
    local stop = math.min(start + a.k, a.n + (include and a.after or 0))
    list[o] = 1 / (stop - (include and start or math.max(start, 0)))
    same = same and list[o] == list[1]
  end
  return same and list[1] or list
end

local function sum_axis(x, dim, a)
  local s = x:shape()
  if a.before == 0 and a.stride == a.k and a.out * a.k == a.n and a.k > 4 then -- windows side by side: one reduction
    table.insert(s, dim + 1, a.k)
    s[dim] = a.out
    return x:reshape(s):sum(dim + 1)
  end
  x = padded(x, dim, a, 0)
  local y = tap(x, dim, a, 1)
  for k = 2, a.k do y = y + tap(x, dim, a, k) end
  return y
end

local function avg_pool(owner, x, size, stride, padding, ceil_mode, include, divisor)
  need_dims(owner, x, #size)
  if divisor == 0 then define.fail(owner, "divisor_override must not be 0") end
  local axes = axes_of(owner, x, size, stride, padding, nil, ceil_mode)
  local scale = 1
  x = shapes.real(x)
  for i = #size, 1, -1 do
    x = sum_axis(x, i + 1, axes[i])
    local w = not divisor and weights(axes[i], include)
    if type(w) == "table" then x = x * shapes.along(w, i + 1, x) elseif w then scale = scale * w end
  end
  if divisor then scale = 1 / divisor end
  return scale == 1 and x or x * scale
end

-- Averages of windows, `size` an integer or one per axis:
--
--     local nn = require "nnlua"
--     local x = nn.arange(1, 17):reshape(1, 4, 4, 1)                  -- one image of 4 x 4
--     print(nn.avg_pool2d(x, 2)[1][1][1][1]:item())                    --> 3.5
--     print(nn.avg_pool2d(x, 3, { stride = 2, ceil_mode = true }):size())   --> 1 2 2 1
local avg_doc = "mean of each window; stride defaults to size; count_include_pad: zeros of the padding count"
for n = 1, 3 do
  local name = ("avg_pool%dd"):format(n)
  local text = "%s(T x, I%d size, I%d? stride, P%d padding = valid, B ceil_mode = false, B count_include_pad = true, I? divisor_override)"
  define.op(M, text:format(name, n, n, n),
    avg_doc, function(...) return avg_pool(name, ...) end)
end

-- ---- maximum -----------------------------------------------------------------------------------------------------------

-- The larger of two, and its position when there are positions: the first of equals; NaN wins.
local function larger(x, xi, y, yi)
  local take = core.logical_or(core.gt(y, x), core.logical_and(core.ne(y, y), core.eq(x, x)))
  return core.where(take, y, x), xi and core.where(take, yi, xi)
end

-- Combines the taps that get(t, k) cuts out of a tensor.
local function max_axis(x, at, k, get)
  local y, yi = get(x, 1), at and get(at, 1)
  for i = 2, k do y, yi = larger(y, yi, get(x, i), at and get(at, i)) end
  return y, yi
end

-- Positions in a sample's plane, 1-based, as large as x.
local function plane_positions(x)
  local s, count, one = x:shape(), 1, {}
  for i = 2, #s - 1 do
    count = count * s[i]
    one[i] = s[i]
  end
  one[1], one[#s] = 1, 1
  return core.arange(1, count + 1, 1, "i64"):reshape(one):expand(s)
end

local function max_taps(x, axes, at)
  for i = #axes, 1, -1 do
    local a = axes[i]
    local px, pat = padded(x, i + 1, a, -inf), at and padded(at, i + 1, a, 1)
    x, at = max_axis(px, pat, a.k, function(t, k) return tap(t, i + 1, a, k) end)
  end
  return x, at
end

-- Two innermost axes by the core's kernel, which keeps which tap was taken instead of a chain of comparisons. nil when it does not apply.
local function max_plane(x, h, w)
  local pads = {}
  for i, a in ipairs { h, w } do
    local after = (a.out - 1) * a.stride + a.k - a.before - a.n
    if a.dilation ~= 1 then return nil end
    pads[i], pads[i + 2] = a.before, math.max(after, 0)
    if pads[i + 2] >= a.k then return nil end
  end
  if h.k * w.k > 255 then return nil end
  return core.max_pool2d(x, { h.k, w.k }, { h.stride, w.stride }, pads)
end

local function max_pool(owner, x, size, stride, padding, dilation, ceil_mode, return_indices)
  local n = #size
  if n == 2 and not (ceil_mode or return_indices or dilation[1] > 1 or dilation[2] > 1) then return core.max_pool2d(x, size, stride, padding) end
  need_dims(owner, x, n)
  local axes = axes_of(owner, x, size, stride, padding, dilation, ceil_mode)
  x = shapes.real(x)
  if return_indices then return max_taps(x, axes, plane_positions(x)) end
  if n == 1 then
    local y = max_plane(x:unsqueeze(2), axis_of(owner, 1, 1, 1, nil, 0, 0, 1), axes[1])
    if y then return y:squeeze(2) end
  elseif n == 2 then
    local y = max_plane(x, axes[1], axes[2])
    if y then return y end
  else
    local s = x:shape()
    local y = max_plane(x:reshape { s[1] * s[2], s[3], s[4], s[5] }, axes[2], axes[3])
    if y then
      local _, h, w = y:size()
      return (max_taps(y:reshape { s[1], s[2], h, w, s[5] }, { axes[1] }))
    end
  end
  return (max_taps(x, axes))
end

-- Maxima of windows, and where they are:
--
--     local nn = require "nnlua"
--     local x = nn.arange(1, 17):reshape(1, 4, 4, 1)
--     local y, at = nn.max_pool2d(x, 2, { return_indices = true })
--     print(y[1][1][1][1]:item(), at[1][1][1][1]:item())               --> 6.0 6
--     print(nn.max_unpool2d(y, at, 2)[1][2][2][1]:item())              --> 6.0
local max_doc = "largest of each window (the first of equals); stride defaults to size; return_indices: also its position in the sample's plane"
for n = 1, 3 do
  local name = ("max_pool%dd"):format(n)
  local text = "%s(T x, I%d size, I%d? stride, P%d padding = valid, I%d dilation = 1, B ceil_mode = false, B return_indices = false) -> T, T"
  define.op(M, text:format(name, n, n, n, n),
    max_doc, function(...) return max_pool(name, ...) end)
end

-- ---- un-pooling --------------------------------------------------------------------------------------------------------

local function max_unpool(owner, x, ids, size, stride, padding, output_size)
  local n = #size
  need_dims(owner, x, n)
  if define.shape_text(ids) ~= define.shape_text(x) then
    define.fail(owner, "one position is needed per element: x is (%s), ids are (%s)", define.shape_text(x), define.shape_text(ids))
  end
  local s, plane, out = x:shape(), 1, {}
  for i = 1, n do
    out[i] = output_size and output_size[i] or (s[i + 1] - 1) * (stride and stride[i] or size[i]) - 2 * padding[i] + size[i]
    if out[i] < 1 then define.fail(owner, "the result would have %d elements in dim %d", out[i], i + 1) end
    plane = plane * out[i]
  end
  local c, sample = s[n + 2], {}
  for i = 1, n + 2 do sample[i] = 1 end
  sample[1] = s[1]
  -- (batch, position, channel) -> place in the flat result; check first, for a position beyond the plane would be one of the next sample
  local worst = ids:numel() > 0 and math.max(ids:amax():item(), 1 - ids:amin():item() + plane) or 0
  if worst > plane then define.fail(owner, "positions must be in 1..%d, they reach from %d to %d", plane, ids:amin():item(), ids:amax():item()) end
  local base = core.arange(0, s[1], 1, "i64"):reshape(sample) * plane
  local at = ((base + ids:long() - 1) * c + core.arange(1, c + 1, 1, "i64")):reshape(-1)
  local total = s[1] * plane * c
  local sum = core.add_rows(shapes.real(x):reshape(-1), at, total)
  local count = core.add_rows(core.full({ x:numel() }, 1), at, total) -- windows that overlap name an element more than once, with one value
  table.move(out, 1, n, 2, s)
  return (sum / core.maximum(count, 1)):reshape(s)
end

for n = 1, 3 do
  local name = ("max_unpool%dd"):format(n)
  define.op(M, ("%s(T x, T ids, I%d size, I%d? stride, I%d padding = 0, I%d? output_size)"):format(name, n, n, n, n),
    "zeros with each element of x at the position that max_pool gave (from 1, in the sample's plane); reads ids, so it runs what is pending",
    function(...) return max_unpool(name, ...) end)
end

-- ---- adaptive ----------------------------------------------------------------------------------------------------------

-- First and last position (1-based) of the o-th of `out` windows that cover n elements.
local function span(o, n, out) return (o - 1) * n // out + 1, (o * n + out - 1) // out end

-- The targets per axis: -1 keeps a size.
local function targets(owner, x, size)
  need_dims(owner, x, #size)
  local out = {}
  for i = 1, #size do
    out[i] = size[i] == -1 and x:size(i + 1) or size[i]
    local possible = out[i] >= 1 and out[i] <= shapes.MOST and x:size(i + 1) >= 1
    if not possible then define.fail(owner, "cannot make %d of %d elements in dim %d", out[i], x:size(i + 1), i + 1) end
  end
  return out
end

local function mean_to(x, dim, out)
  local s = x:shape()
  local n = s[dim]
  if n == out then return x end
  if n % out == 0 then
    table.insert(s, dim + 1, n // out)
    s[dim] = out
    return x:reshape(s):mean(dim + 1)
  end
  local matrix = {}
  for o = 1, out do
    local first, last = span(o, n, out)
    matrix[o] = {}
    for i = 1, n do matrix[o][i] = i >= first and i <= last and 1 / (last - first + 1) or 0 end
  end
  return shapes.multiply(matrix, x, dim)
end

local function max_to(x, at, dim, out)
  local n, longest, spans = x:size(dim), 1, {}
  for o = 1, out do
    local first, last = span(o, n, out)
    spans[o] = { first, last }
    longest = math.max(longest, last - first + 1)
  end
  return max_axis(x, at, longest, function(t, k) -- a shorter window repeats its last element, which changes nothing
    local ids = {}
    for o = 1, out do ids[o] = math.min(spans[o][1] + k - 1, spans[o][2]) end
    return shapes.select(t, dim, ids)
  end)
end

-- Pooling to a given size:
--
--     local nn = require "nnlua"
--     local x = nn.arange(1, 6):reshape(1, 5, 1)
--     print(table.concat(nn.adaptive_avg_pool1d(x, 2):reshape(-1):totable(), " "))   --> 2.0 4.0
--     print(table.concat(nn.adaptive_max_pool1d(x, 2):reshape(-1):totable(), " "))   --> 3.0 5.0
for n = 1, 3 do
  local avg, max = ("adaptive_avg_pool%dd"):format(n), ("adaptive_max_pool%dd"):format(n)
  define.op(M, ("%s(T x, I%d size)"):format(avg, n), "means of windows that divide the plane into `size` (-1 keeps a dim)", function(x, size)
    local out = targets(avg, x, size)
    x = shapes.real(x)
    for i = n, 1, -1 do x = mean_to(x, i + 1, out[i]) end
    return x
  end)
  define.op(M, ("%s(T x, I%d size, B return_indices = false) -> T, T"):format(max, n),
    "largest elements of windows that divide the plane into `size` (-1 keeps a dim); return_indices: also their positions",
    function(x, size, return_indices)
      local out = targets(max, x, size)
      x = shapes.real(x)
      local at = return_indices and plane_positions(x) or nil
      for i = n, 1, -1 do x, at = max_to(x, at, i + 1, out[i]) end
      if at then return x, at end
      return x
    end)
end

return M
