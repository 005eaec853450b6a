--- Weights of samples: how much each counts in a loss or a metric.
--
-- Owns: how the shape of weights meets that of values. Weights are (N), or (N, T) of the steps of sequences; each counts for all values of its
-- sample or step. For losses.lua, metrics/ and training/.

local options = require "nnlua.options"
local shape_text = require("nnlua.module").shape_text

local weighting = {}

--- `weight` in f32 and in a shape that broadcasts over values of `shape`: (N) over (N, T) is (N, 1).
---@param weight nnlua.Tensor
---@param shape integer[]
---@return nnlua.Tensor
function weighting.fit(weight, shape)
  local own = weight:shape()
  while #own > #shape and own[#own] == 1 do own[#own] = nil end
  local fits = #own > 0 and #own <= #shape
  for d, n in ipairs(own) do fits = fits and (n == shape[d] or n == 1 and d > 1) end
  if not fits then
    options.raise(("sample_weight: weights (%s) do not fit values of shape (%s); give one for each sample, or for each step"):format(
      shape_text(weight:shape()), shape_text(shape)))
  end
  for d = #own + 1, #shape do own[d] = 1 end
  local dtype = weight:dtype()
  if dtype ~= "f32" and dtype ~= "f64" then weight = weight:float() end
  return weight:reshape(own)
end

--- One weight for each element of `shape`, as a row.
function weighting.flat(weight, shape) return weighting.fit(weight, shape):broadcast_to(shape):reshape(-1) end

--- Values averaged over the dims that the weights have not, and the weights in their shape: (N, D) with weights (N) gives (N) and (N).
---@return nnlua.Tensor values, nnlua.Tensor weights
function weighting.samplewise(values, weight)
  local own = weight:shape()
  while #own > values:dim() and own[#own] == 1 do own[#own] = nil end
  weight = weight:reshape(own)
  local dims = {}
  for d = #own + 1, values:dim() do dims[#dims + 1] = d end
  if #dims > 0 then values = values:mean(dims) end
  return values, weighting.fit(weight, values:shape()):broadcast_to(values:shape())
end

--- The product of two weights, either of which may be nil, or (N) where the other one is (N, T).
function weighting.product(a, b)
  if not a or not b then return a or b end
  if a:dim() < b:dim() then a, b = b, a end
  return a:dtype() == "bool" and a:float() * weighting.fit(b, a:shape()) or a * weighting.fit(b, a:shape())
end

return weighting
