-- ONNX's operators on pictures and their like, said with ours: convolution, pooling, normalization per channel, resampling.
--
-- Owns: operators[ONNX name] as operators.lua describes them, which adds these to its own. x (N, C, ...) is turned to (N, ..., C) and back.
local nn = require "nnlua"
local lists = require "nnlua.lists"
local common = require "nnlua.onnx.common"

local list, last, first, fill = common.list, common.last, common.first, common.fill

local ops = {}
local function op(name, run) ops[name] = run end

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
  return nn[name]
end
local function window(x, a, kernel)
  local n = #kernel
  local strides, dilations = a.strides or fill(n, 1), a.dilations or fill(n, 1)
  return n, strides, dilations, pads_of(a, x, kernel, strides, dilations)
end

op("Conv", function(x, a)
  local kernel = { table.unpack(x[2]:shape(), 3) }
  local n, strides, dilations, pads = window(x[1], a, kernel)
  local o = { stride = strides, dilation = dilations, groups = a.group or 1 }
  local y = last(x[1])
  if n == 2 then o.padding = { pads[1][1], pads[2][1], pads[1][2], pads[2][2] } else y = bordered(y, pads, 0) end
  return first(named("conv", n)(y, spatial(x[2]), x[3], o))
end)
op("ConvTranspose", function(x, a)
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
op("MaxPool", function(x, a, node)
  local kernel = a.kernel_shape
  local n, strides, dilations, pads = window(x[1], a, kernel)
  local even, y = fits(pads, kernel), last(x[1])
  local o = { stride = strides, dilation = dilations, ceil_mode = a.ceil_mode == 1, padding = even or "valid", return_indices = #node.outputs > 1 }
  if not even then y = bordered(y, pads, x[1]:dtype() == "u8" and 0 or -math.huge) end
  local v, at = named("max_pool", n)(y, kernel, o)
  v = first(v):to(x[1]:dtype())
  if not at then return v end
  at = first(at)
  local h, w, planes = x[1]:size(3), x[1]:size(4), at:size(3) * at:size(4)
  local ids = lists.flat(at:totable()) -- ONNX's number of an element counts all planes, and may go down columns
  for i, id in ipairs(ids) do
    id = id - 1
    if a.storage_order == 1 then id = id % w * h + id // w end
    ids[i] = id + (i - 1) // planes * h * w
  end
  return v, { shape = at:shape(), values = ids, dtype = "i64" }
end)
op("MaxUnpool", function(x, a)
  assert(x[1]:size(1) == 1 and x[1]:size(2) == 1) -- so that positions in all planes are those in the one
  local y = nn.max_unpool2d(last(x[1]), last(x[2]:long() + 1), a.kernel_shape, { stride = a.strides })
  local size = x[3] and list(x[3]) -- behind what the windows cover are zeros
  return first(size and bordered(y, { { 0, size[3] - y:size(2) }, { 0, size[4] - y:size(3) } }, 0) or y)
end)
op("AveragePool", function(x, a)
  local kernel = a.kernel_shape
  local n, strides, _, pads = window(x[1], a, kernel)
  local pool, even, y = named("avg_pool", n), fits(pads, kernel), last(x[1])
  local o = { stride = strides, ceil_mode = a.ceil_mode == 1, padding = even or "valid", count_include_pad = a.count_include_pad == 1 }
  if even then return first(pool(y, kernel, o)) end
  local sum = pool(bordered(y, pads, 0), kernel, o)
  if a.count_include_pad ~= 1 then sum = sum / pool(bordered(y * 0 + 1, pads, 0), kernel, o) end
  return first(sum)
end)
local function spatial_dims(x)
  local d = {}
  for i = 3, x:dim() do d[#d + 1] = i end
  return d
end
op("GlobalAveragePool", function(x) return x[1]:mean(spatial_dims(x[1]), true) end)
op("GlobalMaxPool", function(x) return x[1]:amax(spatial_dims(x[1]), true) end)

-- ---- normalization --------------------------------------------------------------------------------------------------
op("BatchNormalization", function(x, a)
  local eps = a.epsilon or 1e-5
  if a.training_mode ~= 1 then return first(nn.batch_norm(last(x[1]), x[4], x[5], x[2], x[3], { eps = eps })) end
  -- ONNX's running variance follows the one divided by n; nn.batch_norm's, as PyTorch's, the one divided by n - 1
  local mean, var = nn.moments(last(x[1]))
  local keep = a.momentum or 0.9
  return first(nn.batch_norm(last(x[1]), nil, nil, x[2], x[3], { training = true, eps = eps })), x[4] * keep + mean * (1 - keep),
    x[5] * keep + var * (1 - keep)
end)
op("InstanceNormalization", function(x, a)
  return first(nn.instance_norm(last(x[1]), nil, nil, x[2], x[3], { eps = a.epsilon or 1e-5 }))
end)
op("LRN", function(x, a)
  return first(nn.local_response_norm(last(x[1]), a.size, a.alpha or 1e-4, a.beta or 0.75, a.bias or 1))
end)
-- ---- resampling -----------------------------------------------------------------------------------------------------
op("Upsample", function(x) return first(nn.interpolate(last(x[1]), { mode = "nearest", scale = { table.unpack(list(x[2]), 3) } })) end)
op("Resize", function(x, a)
  local y, roi, n = last(x[1]), x[2] and x[2]:numel() > 0 and list(x[2]), x[1]:dim() - 2
  local scale = x[3] and x[3]:numel() > 0 and { table.unpack(list(x[3]), 3) } or nil
  local size = not scale and { table.unpack(list(x[4]), 3) } or nil
  local o = { mode = ({ nearest = "nearest", linear = ({ "linear", "bilinear", "trilinear" })[n], cubic = "bicubic" })[a.mode or "nearest"],
    size = size, scale = scale, cubic_a = a.cubic_coeff_a, exclude_outside = a.exclude_outside == 1 }
  if o.mode == "nearest" then
    o.rounding = ({ floor = "floor", ceil = "ceil", round_prefer_floor = "half_down", round_prefer_ceil = "half_up" })[a.nearest_mode
      or "round_prefer_floor"]
  end
  local places = a.coordinate_transformation_mode or "half_pixel"
  if places == "tf_crop_and_resize" then -- ONNX lists all firsts (of N and C too), then all lasts
    o.box, o.fill = {}, a.extrapolation_value
    for i = 1, n do o.box[2 * i - 1], o.box[2 * i] = roi[2 + i], roi[2 + n + 2 + i] end
  elseif places == "align_corners" and scale then -- the step goes by the length before it is rounded
    o.box, o.size, o.scale = {}, {}, nil
    for i = 1, n do
      local long = scale[i] * y:size(i + 1)
      o.size[i] = math.floor(long)
      o.box[2 * i - 1], o.box[2 * i] = 0, long ~= 1 and (o.size[i] - 1) / (long - 1) or 0
      if o.size[i] == 1 then o.box[2 * i] = 0 end
    end
  elseif places == "pytorch_half_pixel" then -- as half_pixel, but a single result is the first pixel
    for i = 1, n do
      if size[i] == 1 then y = y:narrow(i + 1, 1, 1) end
    end
    o.coordinates = "half_pixel"
  else
    o.coordinates = places
  end
  return first(nn.interpolate(y, o))
end)
op("GridSample", function(x, a)
  local o = { mode = a.mode or "bilinear", padding = a.padding_mode or "zeros", align_corners = a.align_corners == 1 }
  return first(nn.grid_sample(last(x[1]), x[2], o))
end)

return ops
