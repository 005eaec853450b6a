--- The transforms of nn.vision: what their options are and which numbers the runtime gets for them (runtime/data/vision.def).
--
-- Owns: names, options and defaults. The work is the runtime's; a transform without a row there, or a row without a transform, fails a test. Images
-- are H x W x C: bytes (u8, 0 to 255) or floats (0 to 1, unless Compose says otherwise); the result has the same dtype unless it says f32.
--
-- Every transform has the option `chance` (1): how likely it is to be applied to a sample. Options that are a range take a number f, meaning -f to
-- f (for strengths 1 - f to 1 + f), or {low, high}.
--
--     local nn = require "nnlua"
--     local V = nn.vision
--     local augment = V.Compose{ V.RandomRotation{15}, V.RandomFlip{"horizontal"}, V.ColorJitter{ brightness = 0.2, hue = 0.05 } }
--     local x = nn.rand(32, 32, 3)
--     print(augment(x):shape()[1], V.Resize{16, 24}(x):shape()[2])      --> 32  24

local class = require "nnlua.class"
local options = require "nnlua.options"
local sample = require "nnlua.vision.sample"

local M = {}

---@class nnlua.Transform: nnlua.VisionList
local Transform = class("Transform", sample.List)

function Transform:init(given)
  local o = options.check(self.name, given, self.spec)
  self.given = o
  self.step = { self.row, o.chance, table.unpack(self.numbers(o, self.name)) }
  sample.List.init(self, { self.step }, { "image" }, { 0, 1 })
end

function Transform:__tostring()
  local words, named = {}, {}
  for key, rule in pairs(self.spec) do
    local value = self.given[key]
    local text = type(value) == "table" and "{" .. table.concat(value, ", ") .. "}" or tostring(value)
    if rule.position and value ~= nil then words[rule.position] = text
    elseif value ~= nil and value ~= rule.default then named[#named + 1] = key .. " = " .. text end
  end
  table.sort(named)
  return ("%s(%s)"):format(self.name, table.concat(table.move(named, 1, #named, #words + 1, words), ", "))
end

-- A transform `name`, whose numbers(o, name) are the parameters of the runtime's row (its own name unless `row` is given).
local function define(name, spec, numbers, row)
  local c = class(name, Transform)
  spec.chance = spec.chance or { "number", default = 1, min = 0, max = 1 }
  c.name, c.spec, c.numbers, c.row = name, spec, numbers, row or name
  M[name] = c
end

-- The option `value` as two numbers around `middle`.
local function range(value, name, key, middle, least)
  local low, high
  if type(value) == "number" then
    if value < 0 then options.raise(("%s: %s must not be negative, got %g"):format(name, key, value)) end
    low, high = middle - value, middle + value
  else
    low, high = value[1], value[2]
    if #value ~= 2 or type(low) ~= "number" or type(high) ~= "number" or low > high then
      options.raise(("%s: %s must be a number or a range {low, high}, got %s"):format(name, key, options.shown(value)))
    end
  end
  return math.max(low, least or low), math.max(high, least or high)
end

local RANGE = "number|table"

-- ---- places ----------------------------------------------------------------------------------------------------------

local beyond = { constant = 0, nearest = 1, reflect = 2 }

local function with_fill(spec)
  spec.fill_mode = { "string", default = "constant", choices = { "constant", "nearest", "reflect" } }
  spec.fill = { "number", default = 0 }
  spec.interpolation = { "string", default = "bilinear", choices = { "bilinear", "nearest" } }
  return spec
end

-- The last three parameters of a warp.
local function tail(o) return beyond[o.fill_mode], o.fill, o.interpolation == "bilinear" and 1 or 0 end

local function size(rule)
  rule.height = { "integer", position = 1, required = true, min = 1, max = 2 ^ 20 }
  rule.width = { "integer", position = 2, min = 1, max = 2 ^ 20 }
  return rule
end

--- The image in the bytes of a file (u8, one dim): `Decode{}`. channels: 1, 3 or 4 (3); false: as it is stored. at_least = {height, width}: a JPEG
--- may be decoded at a half, a quarter or an eighth, as long as neither side falls below; much quicker before a Resize.
---@class nnlua.vision.Decode: nnlua.Transform
---@overload fun(options?: { channels?: integer|false, at_least?: integer[] }): nnlua.vision.Decode
define("Decode", { channels = { "integer|boolean", position = 1, default = 3 }, at_least = { "table" } }, function(o, name)
  return sample.wanted(name, o)
end)

local methods = { nearest = 0, bilinear = 1, bicubic = 2, area = 3 }

--- The image in another size: `Resize{224, 224}`, `Resize{32}` for a square. Pixels' centres lie at their places + 0.5 (as in PIL, TensorFlow 2,
--- PyTorch with align_corners = false). method: "bilinear", "bicubic", "area" (the mean of what a pixel covers) or "nearest". antialias (true):
--- making an image smaller looks at all pixels, as PIL and torchvision do; false: at the 2 or 4 nearest, as TensorFlow does.
---@class nnlua.vision.Resize: nnlua.Transform
---@overload fun(options: { [1]: integer, [2]?: integer, method?: string, antialias?: boolean }): nnlua.vision.Resize
define("Resize", size { method = { "string", default = "bilinear", choices = { "bilinear", "bicubic", "area", "nearest" } },
  antialias = { "boolean", default = true } }, function(o)
  return { o.height, o.width or o.height, methods[o.method], o.antialias and 1 or 0 }
end)

--- The middle of the image, `CenterCrop{224, 224}`; where the image is smaller, `fill` (0) around it.
---@class nnlua.vision.CenterCrop: nnlua.Transform
---@overload fun(options: { [1]: integer, [2]?: integer, fill?: number }): nnlua.vision.CenterCrop
define("CenterCrop", size { fill = { "number", default = 0 } }, function(o) return { o.height, o.width or o.height, o.fill } end)

--- A window at a place that is drawn, `RandomCrop{32, 32, padding = 4}`; the image may have `padding` pixels of `fill` (0) around it.
---@class nnlua.vision.RandomCrop: nnlua.Transform
---@overload fun(options: { [1]: integer, [2]?: integer, padding?: integer, fill?: number }): nnlua.vision.RandomCrop
define("RandomCrop", size { padding = { "integer", default = 0, min = 0, max = 2 ^ 20 }, fill = { "number", default = 0 } }, function(o)
  return { o.height, o.width or o.height, o.padding, o.fill }
end)

--- Mirrors with a chance of `p` (0.5): "horizontal" (left and right change places), "vertical" or "both" (each by itself).
---@class nnlua.vision.RandomFlip: nnlua.Transform
---@overload fun(options?: { [1]?: string, p?: number }): nnlua.vision.RandomFlip
define("RandomFlip", { mode = { "string", position = 1, default = "horizontal", choices = { "horizontal", "vertical", "both" } },
  p = { "number", default = 0.5, min = 0, max = 1 } }, function(o)
  return { o.mode ~= "vertical" and o.p or 0, o.mode ~= "horizontal" and o.p or 0 }
end)

--- Turns by an angle of a range in degrees, counter-clockwise: `RandomRotation{15}` (the layer nn.RandomRotation takes parts of a
--- circle). What lies beyond the image: fill_mode "constant" (`fill`), "nearest" or "reflect".
---@class nnlua.vision.RandomRotation: nnlua.Transform
---@overload fun(options: { [1]: number|number[], fill_mode?: string, fill?: number, interpolation?: string }): nnlua.vision.RandomRotation
define("RandomRotation", with_fill { degrees = { RANGE, position = 1, required = true } }, function(o, name)
  local low, high = range(o.degrees, name, "degrees", 0)
  return { low, high, tail(o) }
end)

--- Moves down and to the right by parts of height and width: `RandomTranslation{0.1, 0.1}`. Fill as in RandomRotation.
---@class nnlua.vision.RandomTranslation: nnlua.Transform
---@overload fun(options: { [1]: number|number[], [2]?: number|number[], fill_mode?: string }): nnlua.vision.RandomTranslation
define("RandomTranslation", with_fill { height = { RANGE, position = 1, required = true }, width = { RANGE, position = 2 } }, function(o, name)
  local down, down_to = range(o.height, name, "height", 0)
  local right, right_to = range(o.width or o.height, name, "width", 0)
  return { down, down_to, right, right_to, tail(o) }
end)

--- Makes the image smaller (0.2 shows a fifth more) or larger (negative): `RandomZoom{0.2}`. Without `width` its form stays.
---@class nnlua.vision.RandomZoom: nnlua.Transform
---@overload fun(options: { [1]: number|number[], [2]?: number|number[], fill_mode?: string }): nnlua.vision.RandomZoom
define("RandomZoom", with_fill { height = { RANGE, position = 1, required = true }, width = { RANGE, position = 2 } }, function(o, name)
  local high, high_to = range(o.height, name, "height", 0, -0.99)
  local wide, wide_to = range(o.width or 0, name, "width", 0, -0.99)
  return { high, high_to, wide, wide_to, o.width and 0 or 1, tail(o) }
end)

--- Slants: a row that lies y pixels below the centre moves by x * y pixels to the left, a column by y * x up: `RandomShear{0.2, 0.2}`; without the
--- second rows only.
---@class nnlua.vision.RandomShear: nnlua.Transform
---@overload fun(options: { [1]: number|number[], [2]?: number|number[], fill_mode?: string }): nnlua.vision.RandomShear
define("RandomShear", with_fill { x = { RANGE, position = 1, required = true }, y = { RANGE, position = 2, default = 0 } }, function(o, name)
  local x, x_to = range(o.x, name, "x", 0)
  local y, y_to = range(o.y, name, "y", 0)
  return { x, x_to, y, y_to, tail(o) }
end)

--- Looks at the image from aside: each corner moves inwards by up to half of `distortion` (0.5) of the sides.
---@class nnlua.vision.RandomPerspective: nnlua.Transform
---@overload fun(options?: { [1]?: number, fill_mode?: string }): nnlua.vision.RandomPerspective
define("RandomPerspective", with_fill { distortion = { "number", position = 1, default = 0.5, min = 0, max = 1 } }, function(o)
  return { o.distortion, tail(o) }
end)

--- Bends: every pixel moves by `alpha` times noise of -1 to 1 that was blurred by `sigma` pixels (Simard and others, 2003): `Elastic{ alpha = 30,
--- sigma = 4 }`. Boxes follow their corners.
---@class nnlua.vision.Elastic: nnlua.Transform
---@overload fun(options?: { alpha?: number, sigma?: number, fill_mode?: string }): nnlua.vision.Elastic
define("Elastic", with_fill {
  alpha = { "number", position = 1, default = 30, min = 0 }, sigma = { "number", position = 2, default = 4, above = 0, max = 100 },
}, function(o) return { o.alpha, o.sigma, tail(o) } end)

-- ---- colours ---------------------------------------------------------------------------------------------------------

local function nothing() return {} end

--- Takes the colour out; the image keeps its channels. Luma as in ITU-R BT.601.
---@class nnlua.vision.Grayscale: nnlua.Transform
define("Grayscale", {}, nothing)

--- Grayscale with a chance (0.1): `RandomGrayscale{0.2}`.
---@class nnlua.vision.RandomGrayscale: nnlua.Transform
define("RandomGrayscale", { chance = { "number", position = 1, default = 0.1, min = 0, max = 1 } }, nothing, "Grayscale")

--- Changes brightness, contrast and saturation by strengths (1 changes nothing) and turns the hue by parts of the circle, in this order:
--- `ColorJitter{ brightness = 0.2, contrast = 0.2, saturation = 0.2, hue = 0.05 }`.
---@class nnlua.vision.ColorJitter: nnlua.Transform
---@overload fun(options: { brightness?: any, contrast?: any, saturation?: any, hue?: any }): nnlua.vision.ColorJitter
define("ColorJitter", { brightness = { RANGE, default = 0 }, contrast = { RANGE, default = 0 }, saturation = { RANGE, default = 0 },
  hue = { RANGE, default = 0 } }, function(o, name)
  local list = {}
  for _, key in ipairs { "brightness", "contrast", "saturation" } do
    local low, high = range(o[key], name, key, 1, 0)
    list[#list + 1], list[#list + 2] = low, high
  end
  list[7], list[8] = range(o.hue, name, "hue", 0)
  return list
end)

--- Adds normal noise; `stddev` (0.05) is a share of the range of values.
---@class nnlua.vision.GaussianNoise: nnlua.Transform
define("GaussianNoise", { stddev = { "number", position = 1, default = 0.05, min = 0 } }, function(o) return { o.stddev } end)

--- Makes a share `rate` (0.05) of the pixels black or white.
---@class nnlua.vision.SaltPepper: nnlua.Transform
define("SaltPepper", { rate = { "number", position = 1, default = 0.05, min = 0, max = 1 } }, function(o) return { o.rate } end)

--- Blurs with a Gaussian of `sigma` pixels, a number or a range {low, high} to draw from ({0.1, 2}). Borders are mirrored.
---@class nnlua.vision.GaussianBlur: nnlua.Transform
define("GaussianBlur", { sigma = { RANGE, position = 1, default = { 0.1, 2 } } }, function(o, name)
  if type(o.sigma) == "number" then return { range({ o.sigma, o.sigma }, name, "sigma", 0, 0) } end
  return { range(o.sigma, name, "sigma", 0, 0) }
end)

--- Makes sharper (a strength above 1) or softer (below; 0 is PIL's smooth filter): `Sharpen{0.5}` draws from 0.5 to 1.5.
---@class nnlua.vision.Sharpen: nnlua.Transform
define("Sharpen", { strength = { RANGE, position = 1, default = 0.5 } }, function(o, name) return { range(o.strength, name, "strength", 1, 0) } end)

--- Keeps the highest `bits` (4) of 8.
---@class nnlua.vision.Posterize: nnlua.Transform
define("Posterize", { bits = { "integer", position = 1, default = 4, min = 1, max = 8 } }, function(o) return { o.bits } end)

--- Inverts values at or above `threshold` (0.5), a share of the range.
---@class nnlua.vision.Solarize: nnlua.Transform
define("Solarize", { threshold = { "number", position = 1, default = 0.5, min = 0, max = 1 } }, function(o) return { o.threshold } end)

--- Spreads each channel's values so that all are about equally frequent, as PIL does.
---@class nnlua.vision.Equalize: nnlua.Transform
define("Equalize", {}, nothing)

--- Stretches each channel over the whole range.
---@class nnlua.vision.AutoContrast: nnlua.Transform
define("AutoContrast", {}, nothing)

--- White becomes black.
---@class nnlua.vision.Invert: nnlua.Transform
define("Invert", {}, nothing)

--- Sets a rectangle of `area` ({0.02, 0.33}) of the image and a form height / width of `ratio` ({0.3, 3.3}) to `value` (0).
---@class nnlua.vision.Erase: nnlua.Transform
---@overload fun(options?: { area?: number[], ratio?: number[], value?: number, chance?: number }): nnlua.vision.Erase
define("Erase", { area = { "table", default = { 0.02, 0.33 } }, ratio = { "table", default = { 0.3, 3.3 } }, value = { "number", default = 0 } },
  function(o, name)
    local area, area_to = range(o.area, name, "area", 0, 0)
    local ratio, ratio_to = range(o.ratio, name, "ratio", 0, 1e-3)
    return { math.min(area, 1), math.min(area_to, 1), ratio, ratio_to, o.value }
  end)

-- ---- numbers ---------------------------------------------------------------------------------------------------------

--- (x - mean) / deviation of the image itself; f32. A deviation below 1 / sqrt(number of values) counts as that, as in TensorFlow.
---@class nnlua.vision.Standardize: nnlua.Transform
define("Standardize", {}, nothing)

--- x * scale + offset; f32: `Rescale{1/255}`.
---@class nnlua.vision.Rescale: nnlua.Transform
define("Rescale", { scale = { "number", position = 1, default = 1 / 255 }, offset = { "number", position = 2, default = 0 } },
  function(o) return { o.scale, o.offset } end)

--- (x - mean) / std by channel; f32: `Normalize{ mean = {0.485, 0.456, 0.406}, std = {0.229, 0.224, 0.225} }` for images of 0 to 1. One number is
--- for all.
---@class nnlua.vision.Normalize: nnlua.Transform
define("Normalize", { mean = { RANGE, position = 1, required = true }, std = { RANGE, position = 2, required = true } }, function(o, name)
  local list = {}
  for place, key in ipairs { "mean", "std" } do
    local value = o[key]
    for i = 1, 4 do
      local v = type(value) == "number" and value or value[i] or value[#value]
      local good = type(v) == "number" and (key == "mean" or v > 0)
      if not good then
        options.raise(("%s: %s must be numbers%s, got %s"):format(name, key, key == "std" and " above 0" or "", options.shown(v)))
      end
      list[4 * (place - 1) + i] = v
    end
  end
  return list
end)

--- `n` (2) of 14 transforms, drawn for each sample, at a magnitude (9) of 30 (Cubuk and others, 2020; torchvision's list).
---@class nnlua.vision.RandAugment: nnlua.Transform
define("RandAugment", { n = { "integer", position = 1, default = 2, min = 0, max = 14 },
  magnitude = { "number", position = 2, default = 9, min = 0, max = 30 } }, function(o) return { o.n, o.magnitude } end)

--- Mixes the image with `width` (3) copies of it that went through chains of transforms (Hendrycks and others, 2020; RandAugment's list): each chain
--- has `depth` of them (1 to 3, drawn), of strengths drawn up to `severity` (3) of 10; weights are of Dirichlet(alpha), the share of the copies of
--- Beta(alpha, alpha), alpha 1. all_ops = false: without brightness, contrast, saturation and sharpness. Masks and boxes stay, as the image's
--- share does: it is for classification. Images of 1 or 3 channels.
---@class nnlua.vision.AugMix: nnlua.Transform
---@overload fun(options?: { [1]?: integer, width?: integer, depth?: integer, alpha?: number, all_ops?: boolean }): nnlua.vision.AugMix
define("AugMix", { severity = { "integer", position = 1, default = 3, min = 1, max = 10 }, width = { "integer", default = 3, min = 1, max = 16 },
  depth = { "integer", min = 1, max = 16 }, alpha = { "number", default = 1, above = 0, max = 1000 }, all_ops = { "boolean", default = true } },
  function(o) return { o.severity, o.width, o.depth or 0, o.alpha, o.all_ops and 1 or 0 } end)

-- ---- lists -----------------------------------------------------------------------------------------------------------

---@class nnlua.vision.Compose: nnlua.VisionList
---@overload fun(options: { [integer]: nnlua.Transform, kinds?: string[], value_range?: number[] }): nnlua.vision.Compose
--- Transforms one after the other, of a whole sample. kinds says what its parts are ({"image"}): "image", "mask" (moves as the image does, by the
--- nearest pixel), "boxes" (f32 K x 4: x1 y1 x2 y2 in pixels from the upper left corner), "label" (stays). Parts without a kind stay. value_range
--- ({0, 1}): of images of floats.
local Compose = class("Compose", sample.List)
M.Compose = Compose

function Compose:init(given)
  local o = options.check("Compose", given, { steps = { "table", position = 1, rest = true, required = true },
    kinds = { "table", default = { "image" } }, value_range = { "table", default = { 0, 1 } } })
  local steps = {}
  self.transforms = {}
  for i, t in ipairs(o.steps) do
    if not class.isa(t, sample.List) then options.raise(("Compose: step %d is %s; it must be a transform"):format(i, options.shown(t))) end
    for _, step in ipairs(t.steps) do steps[#steps + 1] = step end
    self.transforms[i] = t
  end
  sample.List.init(self, steps, o.kinds, o.value_range)
end

function Compose:__tostring()
  local words = {}
  for i, t in ipairs(self.transforms) do words[i] = tostring(t) end
  return ("Compose(%s)"):format(table.concat(words, ", "))
end

return M
