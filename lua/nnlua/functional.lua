--- Operators written in Lua as compositions of the core's: `nn.conv1d`, `nn.batch_norm`, `nn.mse_loss`, ... Each is a method of tensors too.
--
-- Owns: which of the files in functional/ holds what. They follow PyTorch's semantics and defaults, but images are channels-last and positions
-- count from 1.

local define = require "nnlua.functional.define"

local functional = {}
for _, file in ipairs { "conv", "pool", "norm", "resample", "recurrent", "loss" } do
  for name, f in pairs(require("nnlua.functional." .. file)) do functional[name] = f end
end

--- The operators of this file, in order: { name =, signature =, results = (how many), doc =, fn = }.
functional.rows = define.list

return functional
