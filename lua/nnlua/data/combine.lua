-- data/combine.lua - one data set of several. Returns its functions by name.

local Dataset = require "nnlua.data.dataset"
local class = require "nnlua.class"
local options = require "nnlua.options"
local pipeline = require("nnlua.core").pipeline

local data = {}

-- The handles of a list of data sets, after those that are in `list` already.
local function handles(verb, sets, list)
  list = list or {}
  if type(sets) ~= "table" or class.isa(sets, Dataset) or #sets == 0 then
    options.raise(("%s: needs a list of data sets, got %s"):format(verb, class.isa(sets, Dataset) and "one" or options.shown(sets)))
  end
  for i, ds in ipairs(sets) do
    if not class.isa(ds, Dataset) then options.raise(("%s: value %d must be a data set, got %s"):format(verb, i, options.shown(ds))) end
    list[#list + 1] = ds.handle
  end
  return list
end

--- Elements of all at once: `nn.data.zip{ images, labels }` has the tensors of both. Ends with the shortest.
---@param sets nnlua.Dataset[]
---@return nnlua.Dataset
function data.zip(sets)
  local ds = Dataset(pipeline.zip(handles("zip", sets)))
  for _, s in ipairs(sets) do ds.labels = ds.labels or s.labels end
  ds.batched = sets[1].batched
  return ds
end

local function like(handle, sets)
  local ds = Dataset(handle, sets[1])
  ds.from = nil
  return ds
end

--- One after the other.
---@param sets nnlua.Dataset[]
---@return nnlua.Dataset
function data.concat(sets) return like(pipeline.concat(handles("concat", sets)), sets) end

local sample_spec = {
  sets = { "table", position = 1, required = true },
  weights = { "table" },
  seed = { "integer" },
  stop = { "boolean", default = false },
}

--- Each element from a random one of the data sets: `nn.data.sample_from({ a, b }, { weights = { 0.9, 0.1 } })`. Options: weights (equal), seed (by
--- default from nn.seed's stream), stop (end with the first that ends; by default the others go on).
---@param sets nnlua.Dataset[]
---@param opts? table
---@return nnlua.Dataset
function data.sample_from(sets, opts)
  local all = { sets }
  for key, value in pairs(opts or {}) do all[key] = value end
  local o = options.check("sample_from", all, sample_spec)
  local list, weights = handles("sample_from", o.sets), o.weights or {}
  for i = 1, #list do
    if not o.weights then weights[i] = 1 end
    if type(weights[i]) ~= "number" then
      options.raise(("sample_from: weight %d must be a number, got %s"):format(i, options.shown(weights[i])))
    end
  end
  return like(pipeline.sample_from(list, weights, o.seed, o.stop), sets)
end

local choose_spec = { stop = { "boolean", default = true } }

--- Each element from the data set whose number (from 1) `choices` gives: `nn.data.choose(nn.data.range(2):repeated(), { a, b })` alternates. Ends
--- with the first that ends; option `stop = false`: its turns are passed over then.
---@param choices nnlua.Dataset
---@param sets nnlua.Dataset[]
---@param opts? table
---@return nnlua.Dataset
function data.choose(choices, sets, opts)
  local o = options.check("choose", opts or {}, choose_spec)
  return like(pipeline.choose(handles("choose", sets, handles("choose", { choices })), o.stop), sets)
end

local interleave_spec = { block = { "integer", default = 1, min = 1 } }

--- In turn: `block` (1) elements of each, then again, until all have ended.
---@param sets nnlua.Dataset[]
---@param opts? table
---@return nnlua.Dataset
function data.interleave(sets, opts)
  local o = options.check("interleave", opts or {}, interleave_spec)
  return like(pipeline.interleave(handles("interleave", sets), o.block), sets)
end

return data
