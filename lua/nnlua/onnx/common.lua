-- What the files of ONNX's operators share: dims and positions from 0, channels second, the numbers of dtypes.
local nn = require "nnlua"
local lists = require "nnlua.lists"

local M = {}

function M.dim(d) return d >= 0 and d + 1 or d end -- 0-based -> 1-based
function M.dims(list)
  local out = {}
  for i, d in ipairs(list) do out[i] = M.dim(d) end
  return out
end

-- The numbers of a tensor as a list, whole ones as integers.
function M.list(t)
  local out = t:dim() == 0 and { t:item() } or lists.flat(t:totable())
  for i, v in ipairs(out) do out[i] = math.tointeger(v) or v end
  return out
end
function M.last(x) -- (N, C, ...) -> (N, ..., C)
  local order = { 1 }
  for d = 3, x:dim() do order[#order + 1] = d end
  order[#order + 1] = 2
  return x:permute(order)
end
function M.first(x) -- (N, ..., C) -> (N, C, ...)
  local order = { 1, x:dim() }
  for d = 2, x:dim() - 1 do order[#order + 1] = d end
  return x:permute(order)
end
function M.position(ids, n) -- ONNX's positions, from -n, to ours
  ids = ids:long()
  return nn.where(ids:lt(0), ids + n, ids) + 1
end
function M.counted(ids) return ids - 1 end -- our positions to ONNX's
function M.fill(n, v)
  local out = {}
  for i = 1, n do out[i] = v end
  return out
end

-- TensorProto's numbers of dtypes; what we have no dtype for is in a wider one
M.dtypes = { [1] = "f32", [2] = "u8", [3] = "i32", [4] = "i32", [5] = "i32", [6] = "i32", [7] = "i64", [9] = "bool", [10] = "f16", [11] = "f64",
  [12] = "i64", [13] = "i64", [16] = "bf16" }

return M
