--- Layers that add chance in training and do nothing in inference: GaussianNoise, GaussianDropout, AlphaDropout, SpatialDropout1D/2D/3D, DropPath;
-- and ActivityRegularization.

local core = require "nnlua.core"
local class = require "nnlua.class"
local regularizers = require "nnlua.regularizers"
local Layer = require "nnlua.layer"
local Module = require "nnlua.module"
local Dropout = require("nnlua.layers.core").Dropout
local spatial = require "nnlua.layers.spatial"

local M = {}

-- A layer with a rate of what is lost; apply(self, x) is for training.
local Lossy = class("Lossy", Layer)
Lossy.keeps_mask = true

function Lossy:forward(x)
  if not self.training or self.rate == 0 then return x end
  return self:apply(x)
end

function Lossy:detail() return ("%g"):format(self.rate) end

local function define(name, apply, more)
  local spec = { rate = { "number", position = 1, required = true, min = 0, below = 1 } }
  for key, rule in pairs(more or {}) do spec[key] = rule end
  local c = Layer.define(name, spec, nil, nil, Lossy)
  M[name], c.apply = c, apply
  return c
end

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
define("GaussianDropout", function(self, x) return x * core.normal(x:shape(), 1, math.sqrt(self.rate / (1 - self.rate))) end)

local DROPPED = -1.7580993408473766 -- what selu goes to

--- Dropout for selu: what is dropped becomes selu's least value, and mean and variance stay.
---@class nnlua.AlphaDropout: nnlua.Layer
---@overload fun(options: { [1]: number, noise_shape?: integer[], name?: string }): nnlua.AlphaDropout
local AlphaDropout = define("AlphaDropout", function(self, x)
  local rate = self.rate
  local a = ((1 - rate) * (1 + rate * DROPPED ^ 2)) ^ -0.5
  local kept = core.bernoulli(self:draws(x), 1 - rate)
  return core.where(kept, x, DROPPED) * a - a * DROPPED * rate
end, { noise_shape = { "table" } })
AlphaDropout.draws = Dropout.draws

-- The shape of one draw per sample and element of the dims from `first` on.
local function whole(x, first)
  local shape = x:shape()
  for i = 2, first - 1 do shape[i] = 1 end
  return shape
end

--- Dropout of whole channels.
---@class nnlua.SpatialDropout1D: nnlua.Layer
---@class nnlua.SpatialDropout2D: nnlua.Layer
---@class nnlua.SpatialDropout3D: nnlua.Layer
spatial.each(M, "SpatialDropout%dD", function(name)
  local c = define(name, function(self, x)
    return x * core.dropout(core.ones(whole(x, self.rank + 2), x:dtype()), self.rate)
  end, spatial.options {})
  c.checked = spatial.check_format
  function c:output_shape(shape)
    spatial.need(self, shape)
    return shape
  end
  return c
end)

--- Drops whole samples, for the branch of a residual block: stochastic depth (Huang et al.). `x + nn.DropPath{0.1}(branch(x))`.
---@class nnlua.DropPath: nnlua.Layer
---@class nnlua.StochasticDepth: nnlua.Layer
---@overload fun(options: { [1]: number, name?: string }): nnlua.DropPath
define("DropPath", function(self, x) return x * core.dropout(core.ones(whole(x, x:dim() + 1), x:dtype()), self.rate) end)
M.StochasticDepth = M.DropPath

--- What comes in; `(l1 * sum(|x|) + l2 * sum(x^2)) / N` of its last call, of a batch of N, is added to the loss, as regularizers of weights are.
---@class nnlua.ActivityRegularization: nnlua.Layer
---@overload fun(options: { l1?: number, l2?: number, name?: string }): nnlua.ActivityRegularization
local ActivityRegularization = Layer.define("ActivityRegularization", { l1 = { "number", position = 1, default = 0, min = 0 },
  l2 = { "number", position = 2, default = 0, min = 0 } })
M.ActivityRegularization = ActivityRegularization

function ActivityRegularization:checked() rawset(self, "penalty", regularizers.l1l2 { l1 = self.l1, l2 = self.l2 }) end

function ActivityRegularization:forward(x)
  Module.penalize_activity(self, self.penalty(x) / x:size(1))
  return x
end

function ActivityRegularization:detail() return ("l1 %g, l2 %g"):format(self.l1, self.l2) end

return M
