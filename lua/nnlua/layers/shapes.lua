--- Layers that move elements: Permute, RepeatVector, ZeroPadding2D, Cropping2D, UpSampling2D. Images are (H, W, C).

local core = require "nnlua.core"
local options = require "nnlua.options"
local Layer = require "nnlua.layer"

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

-- ---- borders ---------------------------------------------------------------------------------------------------------

-- n, {h, w} or {{top, bottom}, {left, right}} -> the last form.
local function borders(layer, key)
  local v, out = layer[key], {}
  if type(v) == "number" then v = { v, v } end
  for i = 1, 2 do
    local side = v[i]
    if type(side) == "number" then side = { side, side } end
    local ok = #v == 2 and type(side) == "table" and #side == 2
    for k = 1, ok and 2 or 0 do ok = ok and math.type(side[k]) == "integer" and side[k] >= 0 end
    if not ok then
      options.raise(("%s: option %q must be an integer, {height, width} or {{top, bottom}, {left, right}}, at least 0"):format(
        getmetatable(layer).__name, key))
    end
    out[i] = { side[1], side[2] }
  end
  rawset(layer, key, out)
end

local function images(layer, shape)
  if #shape ~= 3 then layer:refuse("needs images (N, H, W, C)", shape) end
end

local function borders_text(b) return ("%d %d, %d %d"):format(b[1][1], b[1][2], b[2][1], b[2][2]) end

--- Zeros around images: `nn.ZeroPadding2D{1}`, `{ {top, bottom}, {left, right} }`.
---@class nnlua.ZeroPadding2D: nnlua.Layer
---@overload fun(options: { [1]?: integer|table, name?: string }): nnlua.ZeroPadding2D
local ZeroPadding2D = Layer.define("ZeroPadding2D", { padding = { "integer|table", position = 1, default = 1 } })
M.ZeroPadding2D = ZeroPadding2D

function ZeroPadding2D:checked() borders(self, "padding") end

local function grown(n, side, sign) return n < 0 and -1 or n + sign * (side[1] + side[2]) end

function ZeroPadding2D:output_shape(shape)
  images(self, shape)
  return { grown(shape[1], self.padding[1], 1), grown(shape[2], self.padding[2], 1), shape[3] }
end

function ZeroPadding2D:forward(x)
  local n, h, w, c = x:size()
  local p = self.padding
  local zeros = core.zeros({ n, grown(h, p[1], 1), grown(w, p[2], 1), c }, x:dtype())
  return core.slice_set(zeros, x, { 1, p[1][1] + 1, p[2][1] + 1, 1 }, { n, h, w, c }, { 1, 1, 1, 1 })
end

function ZeroPadding2D:detail() return borders_text(self.padding) end

--- Images without their borders: `nn.Cropping2D{ {top, bottom}, {left, right} }`.
---@class nnlua.Cropping2D: nnlua.Layer
---@overload fun(options: { [1]?: integer|table, name?: string }): nnlua.Cropping2D
local Cropping2D = Layer.define("Cropping2D", { cropping = { "integer|table", position = 1, default = 0 } })
M.Cropping2D = Cropping2D

function Cropping2D:checked() borders(self, "cropping") end

function Cropping2D:output_shape(shape)
  images(self, shape)
  local h, w = grown(shape[1], self.cropping[1], -1), grown(shape[2], self.cropping[2], -1)
  if shape[1] >= 0 and h < 1 or shape[2] >= 0 and w < 1 then self:refuse("nothing is left of images", shape) end
  return { h, w, shape[3] }
end

function Cropping2D:forward(x)
  local n, h, w, c = x:size()
  local p = self.cropping
  return x:slice({ 1, p[1][1] + 1, p[2][1] + 1, 1 }, { n, grown(h, p[1], -1), grown(w, p[2], -1), c }, { 1, 1, 1, 1 })
end

function Cropping2D:detail() return borders_text(self.cropping) end

--- Each pixel as a block of `size` pixels: `nn.UpSampling2D{2}`.
---@class nnlua.UpSampling2D: nnlua.Layer
---@overload fun(options: { [1]?: integer|integer[], name?: string }): nnlua.UpSampling2D
local UpSampling2D = Layer.define("UpSampling2D", {
  size = { "integer|table", position = 1, default = 2 }, interpolation = { "string", default = "nearest", choices = { "nearest" } } })
M.UpSampling2D = UpSampling2D

function UpSampling2D:checked()
  local s = self.size
  if type(s) == "number" then s = { s, s } end
  for i = 1, 2 do
    if #s ~= 2 or math.type(s[i]) ~= "integer" or s[i] < 1 then
      options.raise 'UpSampling2D: option "size" must be an integer or a pair of them, at least 1'
    end
  end
  rawset(self, "size", { s[1], s[2] })
end

function UpSampling2D:output_shape(shape)
  images(self, shape)
  local s = self.size
  return { shape[1] < 0 and -1 or shape[1] * s[1], shape[2] < 0 and -1 or shape[2] * s[2], shape[3] }
end

function UpSampling2D:forward(x)
  local n, h, w, c = x:size()
  local s = self.size
  return x:reshape { n, h, 1, w, 1, c }:expand { n, h, s[1], w, s[2], c }:reshape { n, h * s[1], w * s[2], c }
end

function UpSampling2D:detail() return ("%dx%d"):format(self.size[1], self.size[2]) end

return M
