--- Layers that change images at random in training, so that a network sees more variety, and leave them alone in inference: RandomFlip,
-- RandomRotation, RandomTranslation, RandomZoom, RandomGrayscale, ColorJitter, SaltPepper. (GaussianNoise: noise.lua.)
--
-- Owns: what is drawn for an image. Batches (N, H, W, C) or one image (H, W, C); bytes become floats, values keep their scale (`value_range` where a
-- layer must know it). Every image of a batch gets draws of its own, new ones at each call. In a model, or in a pipeline:
--
--     local nn = require "nnlua"
--     local augment = nn.Sequential{ nn.RandomFlip{"horizontal"}, nn.RandomRotation{15 / 360} }
--     local ds = nn.data.from_tensors{ nn.rand(6, 8, 8, 3), nn.arange(1, 7) }:batch(2):map(function(x, y) return augment(x), y end)
--     for x, y in ds:iter() do print(x:shape()[2], y:size(1)) break end   --> 8  2

local core = require "nnlua.core"
local class = require "nnlua.class"
local options = require "nnlua.options"
local resample = require "nnlua.functional.resample"
local real = require("nnlua.functional.shapes").real
local Layer = require "nnlua.layer"

local M = {}

-- A layer whose change(self, x) draws for images x (N, H, W, C) of floats.
local Augmentation = class("Augmentation", Layer)

function Augmentation:forward(x)
  x = real(x)
  if not self.training then return x end
  local dims = x:dim()
  if dims ~= 3 and dims ~= 4 then
    options.raise(("%s: takes images (N, H, W, C) or one image (H, W, C), got a tensor of %d dims"):format(self:label(), dims))
  end
  local _ <close> = core.here(x)
  if dims == 4 then return self:change(x) end
  return self:change(x:unsqueeze(1)):squeeze(1)
end

-- A factor f as the range -f..f around `middle`, or a range {low, high} as it is.
local function range_of(self, key, middle)
  local value = self[key]
  if type(value) == "number" then
    if value < 0 then options.raise(("%s: option %q must not be negative, got %g"):format(self:label(), key, value)) end
    return middle - value, middle + value
  end
  local low, high = value[1], value[2]
  if #value ~= 2 or type(low) ~= "number" or type(high) ~= "number" or low > high then
    options.raise(("%s: option %q must be a number or a range {low, high}, got %s"):format(self:label(), key, options.shown(value)))
  end
  return low, high
end

local function define(name, spec, change)
  local c = Layer.define(name, spec, nil, nil, Augmentation)
  M[name], c.change = c, change
  function c:checked()
    for key, rule in pairs(spec) do
      if rule.factor and self[key] ~= nil then range_of(self, key, 0) end
      if key == "value_range" then range_of(self, key, 0) end
    end
  end
  function c:detail() -- options by place, and the factors that have none where they are not the default
    local words, named = {}, {}
    for key, rule in pairs(spec) do
      local value = self[key]
      local text = type(value) == "table" and "{" .. table.concat(value, ", ") .. "}" or tostring(value)
      if rule.position and value ~= nil then words[rule.position] = text end
      if rule.factor and not rule.position and value ~= rule.default then named[#named + 1] = key .. " " .. text end
    end
    table.sort(named)
    return table.concat(table.move(named, 1, #named, #words + 1, words), ", ")
  end
end

-- The rule of an option that range_of reads.
local function factor(rule)
  rule[1], rule.factor = "number|table", true
  return rule
end

-- One draw per image, of the shape (N, 1, ...) with `dims` dims.
local function draw(x, dims, low, high)
  local shape = { x:size(1) }
  for i = 2, dims do shape[i] = 1 end
  return core.uniform(shape, low, high)
end

local function chance(x, p) return draw(x, 4, 0, 1):lt(p) end

-- ---- places ----------------------------------------------------------------------------------------------------------

--- Mirrors each image with a chance of one half: "horizontal" (left and right change places), "vertical", or both, each by itself.
---@class nnlua.RandomFlip: nnlua.Layer
---@overload fun(options: { [1]?: string, name?: string }): nnlua.RandomFlip
define("RandomFlip", {
  mode = { "string", position = 1, default = "horizontal_and_vertical", choices = { "horizontal", "vertical", "horizontal_and_vertical" } },
}, function(self, x)
  if self.mode:find "horizontal" then x = core.where(chance(x, 0.5), x:flip(3), x) end
  if self.mode:find "vertical" then x = core.where(chance(x, 0.5), x:flip(2), x) end
  return x
end)

-- What lies beyond the borders: Keras's word -> grid_sample's.
local beyond = { reflect = "reflection", nearest = "border", constant = "zeros" }

local function with_fill(spec)
  spec.fill_mode = { "string", default = "reflect", choices = { "reflect", "nearest", "constant" } }
  spec.interpolation = { "string", default = "bilinear", choices = { "bilinear", "nearest" } }
  spec.fill_value = { "number", default = 0 }
  return spec
end

-- The pixel at (u, v), counted from the centre to the right and down, becomes what x has at (u * m[1] + v * m[2] + m[3], u * m[4] + v * m[5] + m[6]).
-- The m are numbers or (N, 1, 1).
local function warp(self, x, m)
  local n, h, w = x:size(1), x:size(2), x:size(3)
  local u = (core.arange(w) - (w - 1) / 2):reshape { 1, 1, w }
  local v = (core.arange(h) - (h - 1) / 2):reshape { 1, h, 1 }
  local function place(i, size) return ((u * m[i] + v * m[i + 1] + m[i + 2]) * (2 / size)):expand { n, h, w } end
  local constant = self.fill_mode == "constant" and self.fill_value or 0
  local y = resample.grid_sample(constant ~= 0 and x - constant or x, core.stack({ place(1, w), place(4, h) }, -1),
    { mode = self.interpolation, padding = beyond[self.fill_mode] })
  return constant ~= 0 and y + constant or y
end

--- Turns each image by an angle between -factor and factor (or in a range {low, high}) of a full circle, counter-clockwise: 15 degrees are 15 / 360
--- (nn.vision.RandomRotation takes degrees).
---@class nnlua.RandomRotation: nnlua.Layer
---@overload fun(options: { [1]: number|number[], fill_mode?: string, interpolation?: string, name?: string }): nnlua.RandomRotation
define("RandomRotation", with_fill { factor = factor { position = 1, required = true } }, function(self, x)
  local low, high = range_of(self, "factor", 0)
  local angle = draw(x, 3, 2 * math.pi * low, 2 * math.pi * high)
  local cos, sin = angle:cos(), angle:sin()
  return warp(self, x, { cos, -sin, 0, sin, cos, 0 })
end)

--- Moves each image down and to the right by parts of its height and width, between -factor and factor or in a range {low, high}.
---@class nnlua.RandomTranslation: nnlua.Layer
---@overload fun(options: { [1]: number|number[], [2]: number|number[], fill_mode?: string, name?: string }): nnlua.RandomTranslation
define("RandomTranslation", with_fill {
  height_factor = factor { position = 1, required = true }, width_factor = factor { position = 2, required = true },
}, function(self, x)
  local low, high = range_of(self, "height_factor", 0)
  local down = draw(x, 3, low, high) * x:size(2)
  low, high = range_of(self, "width_factor", 0)
  local right = draw(x, 3, low, high) * x:size(3)
  return warp(self, x, { 1, 0, -right, 0, 1, -down })
end)

--- Makes each image smaller (a positive factor: 0.2 shows a fifth more) or larger (a negative one). Without width_factor its form stays.
---@class nnlua.RandomZoom: nnlua.Layer
---@overload fun(options: { [1]: number|number[], [2]?: number|number[], fill_mode?: string, name?: string }): nnlua.RandomZoom
define("RandomZoom", with_fill {
  height_factor = factor { position = 1, required = true }, width_factor = factor { position = 2 },
}, function(self, x)
  local high_by = draw(x, 3, range_of(self, "height_factor", 1))
  if type(self.height_factor) == "table" then high_by = high_by + 1 end
  local wide_by = high_by
  if self.width_factor then
    wide_by = draw(x, 3, range_of(self, "width_factor", 1))
    if type(self.width_factor) == "table" then wide_by = wide_by + 1 end
  end
  return warp(self, x, { wide_by, 0, 0, 0, high_by, 0 })
end)

-- ---- colours ---------------------------------------------------------------------------------------------------------

local BYTES = { "table", default = { 0, 255 } }

-- Luma of images (N, H, W, 3) or (N, H, W, 1): (N, H, W, 1), with the weights of ITU-R BT.601.
local function gray(self, x)
  local channels = x:size(4)
  if channels == 1 then return x end
  if channels ~= 3 then options.raise(("%s: takes images of 1 or 3 channels, got %d"):format(self:label(), channels)) end
  return (x * core.tensor({ 0.299, 0.587, 0.114 }, { dtype = x:dtype() })):sum(4, true)
end

--- Takes the colour out of each image with a chance of `factor` (0.5); it keeps its channels.
---@class nnlua.RandomGrayscale: nnlua.Layer
---@overload fun(options: { [1]?: number, name?: string }): nnlua.RandomGrayscale
define("RandomGrayscale", { factor = { "number", position = 1, default = 0.5, min = 0, max = 1 } }, function(self, x)
  return core.where(chance(x, self.factor), gray(self, x), x)
end)

-- Colours x (N, H, W, 3) in 0..1, their hue turned by `turn` of the circle: by hue, saturation and value, and back.
local function turned(x, turn)
  local value, low = x:amax(4, true), x:amin(4, true)
  local spread = value - low
  local unit = core.maximum(spread, 1e-12)
  local r, g, b = x[{ {}, {}, {}, { 1, 1 } }], x[{ {}, {}, {}, { 2, 2 } }], x[{ {}, {}, {}, { 3, 3 } }]
  local sector = core.where(value:eq(r), (g - b) / unit, core.where(value:eq(g), (b - r) / unit + 2, (r - g) / unit + 4)) + turn * 6
  local k = (core.tensor({ 5, 3, 1 }, { dtype = x:dtype() }) + sector):mod(6)
  return value - spread * core.minimum(core.minimum(k, 4 - k), 1):clamp(0)
end

--- Changes the brightness, contrast and saturation of each image by factors between 1 - b and 1 + b (or in ranges {low, high}; 1 changes nothing),
--- and turns its hue by up to `hue` of the circle, in this order. What leaves value_range ({0, 255}) is cut. Hue needs three channels.
---@class nnlua.ColorJitter: nnlua.Layer
---@overload fun(options: { brightness?: any, contrast?: any, saturation?: any, hue?: any, value_range?: number[] }): nnlua.ColorJitter
define("ColorJitter", {
  brightness = factor { default = 0 }, contrast = factor { default = 0 }, saturation = factor { default = 0 }, hue = factor { default = 0 },
  value_range = BYTES,
}, function(self, x)
  local low, high = range_of(self, "value_range", 0)
  local function strength(key)
    local from, to = range_of(self, key, 1)
    if from == 1 and to == 1 then return end
    return draw(x, 4, math.max(0, from), to)
  end
  local function blended(f, other) x = ((x - other) * f + other):clamp(low, high) end
  local f = strength "brightness"
  if f then blended(f, low) end
  f = strength "contrast"
  if f then blended(f, gray(self, x):mean({ 2, 3 }, true)) end
  f = strength "saturation"
  if f then blended(f, gray(self, x)) end
  local from, to = range_of(self, "hue", 0)
  if from == 0 and to == 0 then return x end
  if x:size(4) ~= 3 then options.raise(("%s: hue needs images of 3 channels, got %d"):format(self:label(), x:size(4))) end
  return turned((x - low) / (high - low), draw(x, 4, from, to)) * (high - low) + low
end)

--- Makes a share `rate` of the pixels black or white, with all their channels.
---@class nnlua.SaltPepper: nnlua.Layer
---@overload fun(options: { [1]: number, value_range?: number[], name?: string }): nnlua.SaltPepper
define("SaltPepper", { rate = { "number", position = 1, required = true, min = 0, max = 1 }, value_range = BYTES }, function(self, x)
  local low, high = range_of(self, "value_range", 0)
  local u = core.uniform { x:size(1), x:size(2), x:size(3), 1 }
  return core.where(u:lt(self.rate / 2), low, core.where(u:lt(self.rate), high, x))
end)

return M
