--- Layers that move elements: Permute, RepeatVector, Identity, Lambda; ZeroPadding, Cropping and UpSampling of 1 to 3 dims; Resizing, PixelShuffle.
-- Samples are (T, C), (H, W, C) or (D, H, W, C).

local core = require "nnlua.core"
local class = require "nnlua.class"
local options = require "nnlua.options"
local Layer = require "nnlua.layer"
local pieces = require "nnlua.functional.shapes"
local resample = require "nnlua.functional.resample"
local spatial = require "nnlua.layers.spatial"

local M = {}

--- The dims of a sample in another order, counted from 1 without the batch: `nn.Permute{2, 1}`.
---@class nnlua.Permute: nnlua.Layer
---@overload fun(options: { [integer]: integer, name?: string }): nnlua.Permute
local Permute = Layer.define("Permute", { dims = { "integer", position = 1, rest = true, required = true, min = 1 } })
M.Permute = Permute

function Permute:checked()
  local seen, order = {}, { 1 }
  for i, d in ipairs(self.dims) do
    if seen[d] or d > #self.dims then options.raise(("Permute: the dims must be 1 to %d, each once"):format(#self.dims)) end
    seen[d], order[i + 1] = true, d + 1
  end
  rawset(self, "order", order)
end

function Permute:output_shape(shape)
  if #shape ~= #self.dims then self:refuse(("permutes %d dims"):format(#self.dims), shape) end
  local out = {}
  for i, d in ipairs(self.dims) do out[i] = shape[d] end
  return out
end

function Permute:forward(x) return x:permute(self.order) end

function Permute:detail() return table.concat(self.dims, ", ") end

--- A row `n` times: (C) becomes (n, C).
---@class nnlua.RepeatVector: nnlua.Layer
---@overload fun(options: { [1]: integer, name?: string }): nnlua.RepeatVector
local RepeatVector = Layer.define("RepeatVector", { n = { "integer", position = 1, required = true, min = 1 } })
M.RepeatVector = RepeatVector

function RepeatVector:output_shape(shape)
  if #shape ~= 1 then self:refuse("needs rows (N, C)", shape) end
  return { self.n, shape[1] }
end

function RepeatVector:forward(x) return x:reshape { x:size(1), 1, x:size(2) }:expand { x:size(1), self.n, x:size(2) } end

function RepeatVector:detail() return ("%d"):format(self.n) end

--- What comes in.
---@class nnlua.Identity: nnlua.Layer
local Identity = Layer.define("Identity", {})
M.Identity = Identity

function Identity:forward(x) return x end -- luacheck: no unused args

--- Any function of a tensor: `nn.Lambda{ function(x) return x * 2 end }`. `output_shape`, a shape of one sample or a function of that of the input,
--- is needed where the result has another shape. A file cannot hold a function: of a model with a Lambda it has the weights, for load_weights().
---@class nnlua.Lambda: nnlua.Layer
---@overload fun(options: { [1]: function, output_shape?: integer[]|function, name?: string }): nnlua.Lambda
local Lambda = Layer.define("Lambda", { ["function"] = { "function", position = 1, required = true }, output_shape = { "table|function" } })
M.Lambda = Lambda
Lambda.fields = { ["function"] = "call", output_shape = "result_shape" }

function Lambda:output_shape(shape)
  local told = self.result_shape
  if type(told) == "function" then return told(shape) end
  return told or shape
end

function Lambda:forward(...) return self.call(...) end

-- ---- borders ---------------------------------------------------------------------------------------------------------

local forms = { "an integer or {left, right}", "an integer, {height, width} or {{top, bottom}, {left, right}}",
  "an integer, {depth, height, width} or three pairs" }

-- Option `key` as a pair per spatial dim, in field "sides"; the option itself in the form that Keras has.
local function borders(layer, key)
  spatial.check_format(layer)
  local v, rank, out = layer[key], layer.rank, {}
  if rank == 1 then v = { v } elseif type(v) == "number" then v = { v, v, rank == 3 and v or nil } end
  for i = 1, rank do
    local side = v[i]
    if type(side) == "number" then side = { side, side } end
    local ok = #v == rank and type(side) == "table" and #side == 2
    for k = 1, ok and 2 or 0 do ok = ok and math.type(side[k]) == "integer" and side[k] >= 0 end
    if not ok then options.raise(("%s: option %q must be %s, at least 0, got %s"):format(getmetatable(layer).__name, key, forms[rank],
      options.list_text(layer[key]))) end
    out[i] = { side[1], side[2] }
  end
  rawset(layer, key, rank == 1 and out[1] or out)
  rawset(layer, "sides", out)
end

local Borders = class("Borders", Layer)

function Borders:detail()
  local words = {}
  for i, side in ipairs(self.sides) do words[i] = ("%d %d"):format(side[1], side[2]) end
  return table.concat(words, ", ")
end

function Borders:output_shape(shape)
  spatial.need(self, shape)
  local out = {}
  for i, side in ipairs(self.sides) do
    out[i] = shape[i] < 0 and -1 or shape[i] + self.sign * (side[1] + side[2])
    if shape[i] >= 0 and out[i] < 1 then self:refuse("nothing is left of " .. spatial.samples[self.rank], shape) end
  end
  out[#out + 1] = shape[#shape]
  return out
end

-- Where a sample begins in the larger tensor, and steps of 1.
local function place(layer)
  local start, step = { 1 }, { 1 }
  for i, side in ipairs(layer.sides) do start[i + 1], step[i + 1] = side[1] + 1, 1 end
  start[#start + 1], step[#step + 1] = 1, 1
  return start, step
end

local function batched(n, shape) return table.move(shape, 1, #shape, 2, { n }) end

local function sample_of(x)
  local shape = x:shape()
  return shape[1], table.move(shape, 2, #shape, 1, {})
end

--- Zeros around samples: `nn.ZeroPadding2D{1}`, `{ {top, bottom}, {left, right} }`; of sequences `{ {left, right} }`.
---@class nnlua.ZeroPadding1D: nnlua.Layer
---@class nnlua.ZeroPadding2D: nnlua.Layer
---@class nnlua.ZeroPadding3D: nnlua.Layer
spatial.each(M, "ZeroPadding%dD", function(name)
  local c = Layer.define(name, spatial.options { padding = { "integer|table", position = 1, default = 1 } }, nil, nil, Borders)
  c.sign = 1
  function c:checked() borders(self, "padding") end
  function c:forward(x)
    local n, shape = sample_of(x)
    local start, step = place(self)
    return core.slice_set(core.zeros(batched(n, self:output_shape(shape)), x:dtype()), x, start, batched(n, shape), step)
  end
  return c
end)

--- Samples without their borders: `nn.Cropping2D{ {top, bottom}, {left, right} }`; of sequences `{ {left, right} }`.
---@class nnlua.Cropping1D: nnlua.Layer
---@class nnlua.Cropping2D: nnlua.Layer
---@class nnlua.Cropping3D: nnlua.Layer
spatial.each(M, "Cropping%dD", function(name, rank)
  local c = Layer.define(name, spatial.options { cropping = { "integer|table", position = 1, default = rank == 2 and 0 or 1 } }, nil, nil, Borders)
  c.sign = -1
  function c:checked() borders(self, "cropping") end
  function c:forward(x)
    local n, shape = sample_of(x)
    local start, step = place(self)
    return x:slice(start, batched(n, self:output_shape(shape)), step)
  end
  return c
end)

-- ---- sizes of images -------------------------------------------------------------------------------------------------

local resize_modes = {
  nearest = { mode = "nearest-exact" }, bilinear = { mode = "bilinear" }, bicubic = { mode = "bicubic", cubic_a = -0.5, exclude_outside = true },
}
local interpolations = { "string", default = "nearest", choices = { "nearest", "bilinear", "bicubic" } }

-- Images x as { height, width } by an interpolation of Keras's name: half pixels, no antialiasing.
local function resized(x, size, interpolation)
  local o = { size = size }
  for key, value in pairs(resize_modes[interpolation]) do o[key] = value end
  return resample.interpolate(x, o)
end

--- Each element as a block of `size` elements: `nn.UpSampling2D{2}`; of images, interpolation may be "bilinear" or "bicubic".
---@class nnlua.UpSampling1D: nnlua.Layer
---@class nnlua.UpSampling2D: nnlua.Layer
---@class nnlua.UpSampling3D: nnlua.Layer
spatial.each(M, "UpSampling%dD", function(name, rank)
  local spec = { size = { "integer|table", position = 1, default = 2 }, interpolation = rank == 2 and interpolations or nil }
  local c = Layer.define(name, spatial.options(spec))

  function c:checked()
    spatial.check_format(self)
    rawset(self, "factors", spatial.sizes(self, "size", self.size))
    rawset(self, "size", rank == 1 and self.factors[1] or self.factors)
  end

  function c:output_shape(shape)
    spatial.need(self, shape)
    local out = { [rank + 1] = shape[rank + 1] }
    for i, s in ipairs(self.factors) do out[i] = shape[i] < 0 and -1 or shape[i] * s end
    return out
  end

  function c:forward(x)
    local n, shape = sample_of(x)
    local larger = self:output_shape(shape)
    if rank == 2 and self.interpolation ~= "nearest" then return resized(x, { larger[1], larger[2] }, self.interpolation) end
    local apart, spread = { n }, { n } -- (N, H, 1, W, 1, C) -> (N, H, SH, W, SW, C)
    for i, s in ipairs(self.factors) do
      apart[2 * i], apart[2 * i + 1], spread[2 * i], spread[2 * i + 1] = shape[i], 1, shape[i], s
    end
    apart[2 * rank + 2], spread[2 * rank + 2] = shape[rank + 1], shape[rank + 1]
    return x:reshape(apart):expand(spread):reshape(batched(n, larger))
  end

  function c:detail() return spatial.text(self.factors) .. (rank == 2 and self.interpolation ~= "nearest" and ", " .. self.interpolation or "") end
  return c
end)

--- Images in another size: `nn.Resizing{224, 224}`. crop_to_aspect_ratio cuts what the new shape has no place for, in the middle, instead of
--- distorting; pad_to_aspect_ratio adds borders of `fill_value` for that.
---@class nnlua.Resizing: nnlua.Layer
---@overload fun(options: { [1]: integer, [2]: integer, interpolation?: string, name?: string }): nnlua.Resizing
local Resizing = Layer.define("Resizing", spatial.options {
  height = { "integer", position = 1, required = true, min = 1 },
  width = { "integer", position = 2, required = true, min = 1 },
  interpolation = { "string", default = "bilinear", choices = interpolations.choices },
  crop_to_aspect_ratio = { "boolean", default = false },
  pad_to_aspect_ratio = { "boolean", default = false },
  fill_mode = { "string", default = "constant", choices = { "constant" } },
  fill_value = { "number", default = 0 },
})
M.Resizing = Resizing
Resizing.rank = 2

function Resizing:checked()
  spatial.check_format(self)
  if self.crop_to_aspect_ratio and self.pad_to_aspect_ratio then
    options.raise "Resizing: only one of crop_to_aspect_ratio and pad_to_aspect_ratio can be true"
  end
end

function Resizing:output_shape(shape)
  spatial.need(self, shape)
  return { self.height, self.width, shape[3] }
end

function Resizing:forward(x)
  local _, h, w = x:size()
  if self.crop_to_aspect_ratio then
    local ch, cw = math.min(h, math.max(1, w * self.height // self.width)), math.min(w, math.max(1, h * self.width // self.height))
    x = pieces.cut(pieces.cut(x, 2, (h - ch) // 2 + 1, ch), 3, (w - cw) // 2 + 1, cw)
  elseif self.pad_to_aspect_ratio then
    local ph, pw = math.max(h, w * self.height // self.width), math.max(w, h * self.width // self.height)
    x = pieces.pad(x, 2, (ph - h) // 2, (ph - h) - (ph - h) // 2, self.fill_value)
    x = pieces.pad(x, 3, (pw - w) // 2, (pw - w) - (pw - w) // 2, self.fill_value)
  end
  return resized(x, { self.height, self.width }, self.interpolation)
end

function Resizing:detail() return ("%dx%d, %s"):format(self.height, self.width, self.interpolation) end

--- Blocks of factor^2 channels as pixels: (H, W, C * r * r) becomes (H * r, W * r, C): `nn.PixelShuffle{2}`.
---@class nnlua.PixelShuffle: nnlua.Layer
---@overload fun(options: { [1]: integer, name?: string }): nnlua.PixelShuffle
local PixelShuffle = Layer.define("PixelShuffle", { factor = { "integer", position = 1, required = true, min = 1 } })
M.PixelShuffle = PixelShuffle
PixelShuffle.rank = 2

function PixelShuffle:output_shape(shape)
  spatial.need(self, shape)
  local r = self.factor
  if shape[3] % (r * r) ~= 0 then self:refuse(("needs a multiple of %d channels"):format(r * r), shape) end
  return { shape[1] < 0 and -1 or shape[1] * r, shape[2] < 0 and -1 or shape[2] * r, shape[3] // (r * r) }
end

function PixelShuffle:forward(x) return resample.pixel_shuffle(x, self.factor) end

function PixelShuffle:detail() return ("%d"):format(self.factor) end

return M
