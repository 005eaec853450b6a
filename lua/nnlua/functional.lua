--- Operators written in Lua as compositions of the core's: `nn.conv1d`, `nn.batch_norm`, `nn.mse_loss`, ... Those of a tensor are methods too.
--
-- Owns: which of the files in functional/ holds what. They follow PyTorch's semantics and defaults, but images are channels-last and positions
-- count from 1.

local define = require "nnlua.functional.define"

local functional = {}
for _, file in ipairs { "conv", "pool", "norm", "resample", "recurrent", "loss" } do
  for name, f in pairs(require("nnlua.functional." .. file)) do functional[name] = f end
end
require "nnlua.tensor" -- its rows

--- The operators written in Lua, in order (functional/define.lua says what a row holds).
functional.rows = define.list

return functional
