--- Changing the size of images: interpolate, grid_sample, pixel_shuffle; channels last.
--
-- Owns: where a result looks in its source, and with which weights. interpolate works axis by axis, on a few weighted copies of selected slices.

local core = require "nnlua.core"
local define = require "nnlua.functional.define"
local shapes = require "nnlua.functional.shapes"

local M = {}

-- ---- interpolate -------------------------------------------------------------------------------------------------------

-- Cubic convolution: weights of the four neighbours for a fraction t.
local function cubic(t, a)
  local function near(d) return ((a + 2) * d - (a + 3)) * d * d + 1 end
  local function far(d) return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a end
  return { far(t + 1), near(t), near(1 - t), far(2 - t) }
end
local PYTORCH_A = -0.75

-- Where the results of one axis look, from 0, among n elements. `scale`: the given factor, or nil; `box`: { first, last } as parts of the axis.
local function places_of(n, out, coordinates, scale, box)
  local function steps(o) return scale and o / scale or o * n / out end
  local places = {}
  for o = 0, out - 1 do
    local at
    if box then
      at = (out == 1 and (box[1] + box[2]) / 2 or box[1] + o * (box[2] - box[1]) / (out - 1)) * (n - 1)
    elseif coordinates == "align_corners" then
      at = out > 1 and o * (n - 1) / (out - 1) or 0
    else
      at = coordinates == "half_pixel" and steps(o + 0.5) - 0.5 or steps(o)
    end
    places[o + 1] = at
  end
  return places
end

local roundings = {
  floor = math.floor, ceil = math.ceil,
  half_up = function(v) return math.floor(v + 0.5) end, half_down = function(v) return math.ceil(v - 0.5) end,
}

-- Taps of one axis of n elements: lists of positions (1-based), and of weights (nil: 1) per tap.
local function taps_of(mode, n, places, o)
  local ids, weights = {}, {}
  local count = mode == "bicubic" and 4 or mode == "linear" and 2 or 1
  for k = 1, count do ids[k], weights[k] = {}, {} end
  local function inside(i) return math.max(0, math.min(n - 1, i)) + 1 end
  for i, at in ipairs(places) do
    if mode == "nearest" then
      ids[1][i] = inside(roundings[o.rounding](at))
    else
      if mode == "linear" then at = math.max(at, 0) end
      local low = math.floor(at)
      local w, before, sum = mode == "linear" and { 1 - (at - low), at - low } or cubic(at - low, o.cubic_a), mode == "linear" and 1 or 2, 0
      for k = 1, count do
        local to = low + k - before
        if o.exclude_outside and (to < 0 or to >= n) then w[k] = 0 end
        sum = sum + w[k]
        ids[k][i] = inside(to)
      end
      for k = 1, count do weights[k][i] = o.exclude_outside and w[k] / sum or w[k] end
    end
  end
  return ids, count > 1 and weights
end

local function resize_axis(x, dim, mode, places, o)
  local ids, weights = taps_of(mode, x:size(dim), places, o)
  if not weights then return shapes.select(x, dim, ids[1]) end
  local y
  for k = 1, #ids do
    local term = shapes.select(x, dim, ids[k]) * shapes.along(weights[k], dim, x)
    y = y and y + term or term
  end
  return y
end

-- y with `fill` where a place along dim lies outside of x's n elements
local function filled_outside(y, dim, n, places, fill)
  local out, any = {}, false
  for i, at in ipairs(places) do
    out[i] = (at < 0 or at > n - 1) and 1 or 0
    any = any or out[i] == 1
  end
  return any and core.where(shapes.along(out, dim, y):ne(0), fill, y) or y
end

-- The word for each axis, by mode and number of spatial dims; what the modes that PyTorch has take for granted.
local axis_modes = { nearest = "nearest", ["nearest-exact"] = "nearest", linear = "linear", bilinear = "linear", trilinear = "linear",
  bicubic = "bicubic" }
local mode_dims = { linear = 1, bilinear = 2, trilinear = 3, bicubic = 2 }

-- The sizes of the results, and the factors that made them.
local function sizes_of(owner, x, n, size, scale)
  local out, scales = {}, {}
  for i = 1, n do
    if size then
      out[i] = #size == 1 and size[1] or size[i]
    else
      scales[i] = type(scale) == "number" and scale or scale[i]
      out[i] = scales[i] and math.floor(x:size(i + 1) * scales[i])
    end
    if not out[i] or out[i] < 1 or x:size(i + 1) < 1 then
      define.fail(owner, "one size or scale per spatial dim is needed, each result at least 1")
    end
    if out[i] > shapes.MOST then define.fail(owner, "a result of %.0f elements along a dim is too large", out[i]) end
  end
  return out, scales
end

--- x (N, ..., C) resized to `size`, or by the factor `scale`. Modes: nearest, nearest-exact, linear (3-D input), bilinear and bicubic (4-D),
--- trilinear (5-D), area.
---
--- Where result o of an axis looks (from 0), unless the mode says it: `coordinates` half_pixel (o + 0.5) * step - 0.5, the default but for nearest;
--- asymmetric o * step, the default of nearest; align_corners, the first and last on the first and last (align_corners = true is that too).
--- `box` lists first and last of the part that is resized, as parts of the axis, for every spatial dim: { 0, 1, 0.25, 0.75 } is the whole height and
--- the middle of the width, corners aligned; where it reaches outside of x the result is `fill`.
--- `rounding` is that of nearest; `cubic_a` the coefficient of bicubic (PyTorch's; Keras has -0.5); exclude_outside: taps outside of x weigh nothing
--- instead of repeating the border.
--
--     local nn = require "nnlua"
--     local x = nn.tensor{ { {1}, {3} } }                                     -- (N, L, C)
--     local y = nn.interpolate(x, { size = 4, mode = "linear" })
--     print(table.concat(y:reshape(-1):totable(), " "))                         --> 1.0 1.5 2.5 3.0
define.op(M,
  "interpolate(T x, IL? size, F*? scale, S(nearest|nearest-exact|linear|bilinear|trilinear|bicubic|area) mode = nearest, B align_corners = false, \z
   S(half_pixel|align_corners|asymmetric)? coordinates, F*? box, F fill = 0, S(floor|ceil|half_up|half_down)? rounding, F cubic_a = -0.75, \z
   B exclude_outside = false)",
  "x (N,...,C) resized to size or by scale, as PyTorch does (no antialiasing), or as other coordinates and roundings say",
  function(x, size, scale, mode, align, coordinates, box, fill, rounding, cubic_a, exclude_outside)
    local owner, n = "interpolate", x:dim() - 2
    if n < 1 or n > 3 then define.fail(owner, "the input must be (batch, 1 to 3 spatial dims, channels), its shape is (%s)", define.shape_text(x)) end
    if (size == nil) == (scale == nil) then define.fail(owner, "either size or scale is needed") end
    if mode_dims[mode] and mode_dims[mode] ~= n then
      define.fail(owner, "mode %q needs %d spatial dims, the input (%s) has %d", mode, mode_dims[mode], define.shape_text(x), n)
    end
    if align and not mode_dims[mode] then define.fail(owner, "align_corners has no meaning for mode %q", mode) end
    if (coordinates or box or rounding) and (mode == "area" or mode == "nearest-exact") then
      define.fail(owner, "mode %q has its own coordinates and rounding; mode \"nearest\" takes others", mode)
    end
    if box and (type(box) ~= "table" or #box ~= 2 * n) then define.fail(owner, "box must list first and last for each of %d spatial dims", n) end
    if (align and 1 or 0) + (coordinates and 1 or 0) + (box and 1 or 0) > 1 then
      define.fail(owner, "one of align_corners, coordinates and box says where to look")
    end
    if rounding and mode ~= "nearest" then define.fail(owner, "rounding has no meaning for mode %q", mode) end
    local out, scales = sizes_of(owner, x, n, size, scale)
    if mode == "area" then return require("nnlua.functional.pool")[("adaptive_avg_pool%dd"):format(n)](x, out) end
    local asked = coordinates ~= nil
    coordinates = align and "align_corners" or coordinates or mode == "nearest" and "asymmetric" or "half_pixel"
    local o = { rounding = rounding or mode == "nearest-exact" and "half_up" or "floor", cubic_a = cubic_a, exclude_outside = exclude_outside }
    x = shapes.real(x)
    for i = 1, n do
      local from, whole = x:size(i + 1), not scales[i] or scales[i] == 1
      local kept = out[i] == from and not box and (whole or axis_modes[mode] == "linear" and not asked) -- by PyTorch's rule
      if not kept then
        local places = places_of(from, out[i], coordinates, scales[i], box and { box[2 * i - 1], box[2 * i] })
        x = resize_axis(x, i + 1, axis_modes[mode], places, o)
        if box then x = filled_outside(x, i + 1, from, places, fill) end
      end
    end
    return x
  end)

-- ---- grid_sample -------------------------------------------------------------------------------------------------------

-- Grid coordinate (-1..1) to pixels (0-based).
local function pixels(g, n, align)
  if align then return (g + 1) * ((n - 1) / 2) end
  return (g + 1) * (n / 2) - 0.5
end

-- v reflected into [low, high]; both doubled, so that half pixels are integers.
local function reflect(v, low2, high2)
  if low2 == high2 then return v * 0 end
  local low, range = low2 / 2, (high2 - low2) / 2
  v = (v - low):abs()
  local flips = (v / range):floor():detach()
  local rest = v - flips * range
  local odd = flips - (flips / 2):floor() * 2
  return core.where(odd:eq(0), rest + low, range - rest + low)
end

local function placed(g, n, padding, align)
  local v = pixels(g, n, align)
  if padding == "reflection" then v = align and reflect(v, 0, 2 * (n - 1)) or reflect(v, -1, 2 * n - 1) end
  if padding ~= "zeros" then v = v:clamp(0, n - 1) end
  return v
end

-- Reads x (N, spatial dims, C) at whole places: pixel{ place on each axis (N, results, 1) }. Outside it is the nearest, or 0 (zeros).
local function reader(x, shape, zeros)
  local s, axes = x:shape(), x:dim() - 2
  local plane, ones = 1, { s[1] }
  for i = 1, axes do
    plane = plane * s[i + 1]
    ones[i + 1] = 1
  end
  ones[axes + 2] = 1
  local flat = shapes.real(x):reshape { s[1] * plane, s[axes + 2] }
  local first = core.arange(0, s[1], 1, "i64"):reshape(ones) * plane + 1
  return function(place)
    local inside, at
    for i = 1, axes do
      local v, last = place[i], s[i + 1] - 1
      local within = core.logical_and(v:ge(0), v:le(last))
      local id = v:clamp(0, last):long()
      inside = inside and core.logical_and(inside, within) or within
      at = at and at * s[i + 1] + id or id
    end
    local v = core.index_select(flat, 1, (first + at):reshape(-1)):reshape(shape)
    return zeros and core.where(inside, v, 0) or v
  end
end

-- Between the 2^axes neighbours of each place.
local function blend(pixel, places)
  local base, share, at = {}, {}, {}
  for i, v in ipairs(places) do
    base[i] = v:floor():detach()
    share[i] = v - base[i]
  end
  local function along(i)
    if i > #places then return pixel(at) end
    at[i] = base[i]
    local low = along(i + 1)
    at[i] = base[i] + 1
    return low * (1 - share[i]) + along(i + 1) * share[i]
  end
  return along(1)
end

-- The 4 x 4 neighbours of each place of an image, by cubic convolution. The padding moves each neighbour, not the place.
local function blend_cubic(pixel, rows, cols, h, w, padding, align)
  local y0, q0 = rows:floor():detach(), cols:floor():detach()
  local wy, wq = cubic(rows - y0, PYTORCH_A), cubic(cols - q0, PYTORCH_A)
  local function within(v, size)
    if padding == "reflection" then v = align and reflect(v, 0, 2 * (size - 1)) or reflect(v, -1, 2 * size - 1) end
    return padding == "zeros" and v or v:clamp(0, size - 1):round()
  end
  local total
  for i = 1, 4 do
    local row = within(y0 + (i - 2), h)
    for k = 1, 4 do
      local term = pixel { row, within(q0 + (k - 2), w) } * wy[i] * wq[k]
      total = total and total + term or term
    end
  end
  return total
end

--- Samples of x (N, H, W, C) at the places `grid` (N, OH, OW, 2) names: x then y, from -1 (left, top) to 1 (right, bottom). Volumes
--- (N, D, H, W, C) take a grid (N, OD, OH, OW, 3) of x, y, z.
--
--     local nn = require "nnlua"
--     local x = nn.tensor{ { {{1}, {2}}, {{3}, {4}} } }
--     print(nn.grid_sample(x, nn.tensor{ {{{0, 0}}} }):item())  --> 2.5
define.op(M,
  "grid_sample(T x, T grid, S(bilinear|nearest|bicubic) mode = bilinear, S(zeros|border|reflection) padding = zeros, B align_corners = false)",
  "x (N,H,W,C) at the places that grid (N,OH,OW,2) names, x then y in -1..1; volumes (N,D,H,W,C) take x, y, z",
  function(x, grid, mode, padding, align)
    local owner = "grid_sample"
    local s, g = x:shape(), grid:shape()
    local axes = #s - 2
    if axes ~= 2 and axes ~= 3 or #g ~= #s or g[#g] ~= axes or g[1] ~= s[1] then
      define.fail(owner, "an input (N,H,W,C) and a grid (N,OH,OW,2), or (N,D,H,W,C) and (N,OD,OH,OW,3), are needed, got (%s) and (%s)",
        define.shape_text(x), define.shape_text(grid))
    end
    if mode == "bicubic" and axes == 3 then define.fail(owner, "mode \"bicubic\" is for images (N,H,W,C), got (%s)", define.shape_text(x)) end
    local shape, places = grid:shape(), {}
    shape[#shape] = s[#s]
    local pixel = reader(x, shape, padding == "zeros")
    for i = 1, axes do places[i] = shapes.cut(grid, #g, axes + 1 - i, 1) end -- (N, results, 1); the grid names the last axis first
    if mode == "bicubic" then
      return blend_cubic(pixel, pixels(places[1], s[2], align), pixels(places[2], s[3], align), s[2], s[3], padding, align)
    end
    for i = 1, axes do
      places[i] = placed(places[i], s[i + 1], padding, align)
      if mode == "nearest" then places[i] = places[i]:round():detach() end
    end
    return mode == "nearest" and pixel(places) or blend(pixel, places)
  end)

-- ---- pixel_shuffle -----------------------------------------------------------------------------------------------------

--- (N, H, W, C * r * r) -> (N, H * r, W * r, C). Order "crd": offset (i, j) of channel c is channel c * r * r + i * r + j, as in PyTorch;
--- "dcr": (i * r + j) * C + c, as in TensorFlow's depth_to_space.
--
--     local nn = require "nnlua"
--     local y = nn.pixel_shuffle(nn.arange(1, 5):reshape(1, 1, 1, 4), 2)
--     print(y[1][2][1][1]:item())  --> 3.0
define.op(M, "pixel_shuffle(T x, I factor, S(crd|dcr) order = crd)", "blocks of factor^2 channels become pixels: (N,H,W,C*r*r) -> (N,H*r,W*r,C)",
  function(x, r, order)
    local s = x:shape()
    if #s ~= 4 or r < 1 or s[4] % (r * r) ~= 0 then
      define.fail("pixel_shuffle", "the input must be (N,H,W,C * %d), its shape is (%s)", r * r, define.shape_text(x))
    end
    local c = s[4] // (r * r)
    if order == "crd" then
      x = x:reshape { s[1], s[2], s[3], c, r, r }:permute(1, 2, 5, 3, 6, 4)
    else
      x = x:reshape { s[1], s[2], s[3], r, r, c }:permute(1, 2, 4, 3, 5, 6)
    end
    return x:reshape { s[1], s[2] * r, s[3] * r, c }
  end)

--- The inverse of pixel_shuffle.
--
--     local nn = require "nnlua"
--     print(nn.pixel_unshuffle(nn.ones(1, 4, 6, 2), 2):size())  --> 1 2 3 8
define.op(M, "pixel_unshuffle(T x, I factor, S(crd|dcr) order = crd)", "pixels become blocks of factor^2 channels: (N,H*r,W*r,C) -> (N,H,W,C*r*r)",
  function(x, r, order)
    local s = x:shape()
    if #s ~= 4 or r < 1 or s[2] % r ~= 0 or s[3] % r ~= 0 then
      define.fail("pixel_unshuffle", "height and width must be multiples of %d, the shape is (%s)", r, define.shape_text(x))
    end
    local h, w = s[2] // r, s[3] // r
    x = x:reshape { s[1], h, r, w, r, s[4] } -- row in the block, column in the block
    x = order == "crd" and x:permute(1, 2, 4, 6, 3, 5) or x:permute(1, 2, 4, 3, 5, 6)
    return x:reshape { s[1], h, w, s[4] * r * r }
  end)

return M
