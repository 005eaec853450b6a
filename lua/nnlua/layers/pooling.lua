--- Pooling over whole samples: GlobalAveragePooling1D/2D, GlobalMaxPooling1D/2D. Samples are (T, C) or (H, W, C).

local core = require "nnlua.core"
local masks = require "nnlua.mask"
local Layer = require "nnlua.layer"

local M = {}

-- One class per number of dims and kind; `pool(x, dims, keepdims)` does the work.
local function define(name, dims, pool)
  local c = Layer.define(name, { keepdims = { "boolean", default = false } })
  M[name] = c
  local over = {}
  for i = 1, dims do over[i] = i + 1 end

  function c:output_shape(shape)
    if #shape ~= dims + 1 then self:refuse(dims == 1 and "needs sequences (N, T, C)" or "needs images (N, H, W, C)", shape) end
    local out = {}
    for i = 1, self.keepdims and dims or 0 do out[i] = 1 end
    out[#out + 1] = shape[dims + 1]
    return out
  end

  function c:forward(x) return pool(x, over, self.keepdims) end
end

-- Of sequences that carry a mask, over the steps that count.
local function mean(x, over, keep)
  local mask = x:dim() == 3 and masks.of(x)
  if not mask then return x:mean(over, keep) end
  local counts = mask:unsqueeze(3)
  return core.where(counts, x, 0):sum(over, keep) / core.maximum(counts:to(x:dtype()):sum(over, keep), 1)
end
local function largest(x, over, keep) return x:amax(over, keep) end

for dims = 1, 2 do
  define(("GlobalAveragePooling%dD"):format(dims), dims, mean)
  define(("GlobalMaxPooling%dD"):format(dims), dims, largest)
end

return M
