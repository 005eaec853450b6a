--- Layers that add chance in training and do nothing in inference: GaussianNoise, GaussianDropout, SpatialDropout1D/2D.

local core = require "nnlua.core"
local Layer = require "nnlua.layer"

local M = {}

--- Adds normal draws of deviation `stddev`.
---@class nnlua.GaussianNoise: nnlua.Layer
---@overload fun(options: { [1]: number, name?: string }): nnlua.GaussianNoise
local GaussianNoise = Layer.define("GaussianNoise", { stddev = { "number", position = 1, required = true, min = 0 } })
M.GaussianNoise = GaussianNoise
GaussianNoise.keeps_mask = true

function GaussianNoise:forward(x)
  if not self.training or self.stddev == 0 then return x end
  return x + core.normal(x:shape(), 0, self.stddev)
end

function GaussianNoise:detail() return ("%g"):format(self.stddev) end

--- Multiplies with normal draws of mean 1 and the variance that dropout of `rate` has.
---@class nnlua.GaussianDropout: nnlua.Layer
---@overload fun(options: { [1]: number, name?: string }): nnlua.GaussianDropout
local GaussianDropout = Layer.define("GaussianDropout", { rate = { "number", position = 1, required = true, min = 0, below = 1 } })
M.GaussianDropout = GaussianDropout
GaussianDropout.keeps_mask = true

function GaussianDropout:forward(x)
  if not self.training or self.rate == 0 then return x end
  return x * core.normal(x:shape(), 1, math.sqrt(self.rate / (1 - self.rate)))
end

function GaussianDropout:detail() return ("%g"):format(self.rate) end

-- Dropout of whole channels.
for dims = 1, 2 do
  local name = ("SpatialDropout%dD"):format(dims)
  local c = Layer.define(name, { rate = { "number", position = 1, required = true, min = 0, below = 1 } })
  M[name] = c
  c.keeps_mask = dims == 1

  function c:output_shape(shape)
    if #shape ~= dims + 1 then self:refuse(dims == 1 and "needs sequences (N, T, C)" or "needs images (N, H, W, C)", shape) end
    return shape
  end

  function c:forward(x)
    if not self.training or self.rate == 0 then return x end
    local shape = x:shape()
    for i = 2, dims + 1 do shape[i] = 1 end
    return x * core.dropout(core.ones(shape, x:dtype()), self.rate)
  end

  function c:detail() return ("%g"):format(self.rate) end
end

return M
