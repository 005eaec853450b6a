-- data/common.lua - what the files of this folder that read files share.

local Dataset = require "nnlua.data.dataset"
local pipeline = require("nnlua.core").pipeline

local common = {}

--- Numbers 1..n in an order that depends on the seed alone.
function common.order(n, seed)
  local order = {}
  if n == 0 then return order end
  for i in Dataset(pipeline.shuffle(pipeline.range(1, 1, n), n, seed, false)):iter() do order[#order + 1] = i:item() end
  return order
end

--- The options of f(first, opts) as one table, also where `first` is a table itself.
function common.with(first, opts)
  local all = { first }
  for key, value in pairs(opts or {}) do all[key] = value end
  return all
end

return common
