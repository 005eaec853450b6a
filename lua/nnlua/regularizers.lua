--- Regularizers: `nn.regularizers`. What large weights cost; fit adds it to the loss.
--
-- Owns: the formulas, with Keras's names and defaults. A regularizer is called with a weight and gives a scalar tensor; layers take one as
-- `kernel_regularizer =` or `bias_regularizer =`: by name, as an object, or as any function of a tensor. In a loop by hand add
-- `model:regularization()` to the loss.
--
--     local nn = require "nnlua"
--     local layer = nn.Dense{2, kernel_regularizer = nn.regularizers.l2{0.1}, init = "ones"}
--     layer:build{3}
--     print(("%.1f"):format(layer:regularization():item()))   --> 0.6

local core = require "nnlua.core"
local options = require "nnlua.options"
local initializers = require "nnlua.initializers"

local regularizers, define = require("nnlua.catalogue").new "a regularizer"

-- The sum of absolute values, times l1: weights that are not needed become 0.
define("l1", "L1", { l1 = { "number", position = 1, default = 0.01, min = 0 } }, function(self, w) return w:abs():sum() * self.l1 end)
-- The sum of squares, times l2: weights stay small.
define("l2", "L2", { l2 = { "number", position = 1, default = 0.01, min = 0 } }, function(self, w) return w:square():sum() * self.l2 end)
-- Both.
define("l1l2", "L1L2", {
  l1 = { "number", position = 1, default = 0, min = 0 }, l2 = { "number", position = 2, default = 0, min = 0 },
}, function(self, w) return w:abs():sum() * self.l1 + w:square():sum() * self.l2 end)

-- The mean size of the cosine between two rows (or columns) of a matrix.
define("orthogonal", "OrthogonalRegularizer", {
  factor = { "number", position = 1, default = 0.01, min = 0 }, mode = { "string", default = "rows", choices = { "rows", "columns" } },
}, function(self, w)
  if w:dim() ~= 2 then options.raise(("orthogonal regularizer: needs a matrix, got a weight with %d dims"):format(w:dim())) end
  if self.mode == "columns" then w = w:transpose(1, 2) end
  w = w / core.maximum(w:square():sum(2, true), 1e-12):sqrt()
  local n = w:size(1)
  local others = w:matmul(w:transpose(1, 2)) * (1 - initializers.identity {} { n, n })
  return others:abs():sum() * (self.factor / math.max(1, n * (n - 1)))
end)

return regularizers
