--- Clipping of gradients, before a step.
--
-- Owns: the arithmetic of limits on gradients. Functions of (grads, n, limit) replace grads[1..n], a table with holes, and return true; optimizers
-- use them for their options clipvalue, clipnorm and global_clipnorm. `clip_grad_norm` is for loops by hand.

local core = require "nnlua.core"
local options = require "nnlua.options"

local clip = {}

--- Every element within [-limit, limit].
function clip.by_value(grads, n, limit)
  for i = 1, n do
    if grads[i] then grads[i] = grads[i]:clamp(-limit, limit) end
  end
  return true
end

-- 1 where the norm is within the limit, else limit / norm.
local function factor(sum_of_squares, limit) return limit / core.maximum(sum_of_squares:sqrt(), limit) end

--- Each gradient by itself with a Euclidean norm of at most limit.
function clip.by_norm(grads, n, limit)
  for i = 1, n do
    if grads[i] then grads[i] = grads[i] * factor(grads[i]:square():sum(), limit) end
  end
  return true
end

-- Sum of squares over all gradients, nil when there is none.
local function total_of(grads, n)
  local total
  for i = 1, n do
    if grads[i] then
      local sum = grads[i]:square():sum()
      total = total and total + sum or sum
    end
  end
  return total
end

--- All gradients together with a Euclidean norm of at most limit: one factor for all.
function clip.by_global_norm(grads, n, limit)
  local total = total_of(grads, n)
  local scale = total and factor(total, limit)
  for i = 1, n do
    if grads[i] then grads[i] = grads[i] * scale end
  end
  return true
end

--- Scale the gradients of `parameters` so that their common norm is at most `limit`. Returns the norm from before, as a tensor.
---
---     local nn = require "nnlua"
---     local w = nn.parameter{ 3, 4 }
---     local loss = (w * w * 0.5):sum()
---     loss:backward()
---     print(nn.clip_grad_norm({ w }, 1):item(), ("%.1f"):format(w:grad()[1]:item()))   --> 5.0  0.6
---@param parameters nnlua.Tensor[]
---@param limit number
---@return nnlua.Tensor
function clip.clip_grad_norm(parameters, limit)
  if type(parameters) ~= "table" then options.raise("clip_grad_norm: needs a list of parameters, got " .. options.shown(parameters)) end
  if type(limit) ~= "number" or limit <= 0 or limit ~= limit then
    options.raise("clip_grad_norm: the limit must be a number above 0, got " .. options.shown(limit))
  end
  local _ <close> = core.no_grad()
  local grads, n = {}, #parameters
  for i = 1, n do
    if not core.is_tensor(parameters[i]) then
      options.raise(("clip_grad_norm: parameter %d must be a tensor, got %s"):format(i, options.shown(parameters[i])))
    end
    grads[i] = parameters[i]:grad()
  end
  local total = total_of(grads, n)
  if not total then return core.zeros {} end
  local scale = factor(total, limit)
  for i = 1, n do
    if grads[i] then parameters[i]:set_grad(grads[i] * scale) end
  end
  return total:sqrt()
end

return clip
