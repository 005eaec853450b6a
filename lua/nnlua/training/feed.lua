--- What fit, evaluate and predict are fed with: from what the user gave to batches of inputs and targets.
--
-- Owns: which tensors are inputs, targets and weights, and their order; where passes begin and end.

local core = require "nnlua.core"
local options = require "nnlua.options"

local is_plain = options.is_plain
local feed = {}

local function is_dataset(value)
  return (type(value) == "table" or type(value) == "userdata" and not core.is_tensor(value)) and value.iter ~= nil
end

-- How many values of an element are inputs and how many targets; names where there are any.
local function sides_of(self, c)
  local sides = { inputs = rawget(self, "input_names") or {}, targets = {} }
  for i, target in ipairs(c and c.targets or {}) do sides.targets[i] = target.name end
  sides.n, sides.m = math.max(1, #sides.inputs), c and #c.targets or 0
  return sides
end

-- The tensors of `value` in order: it is one, a list, or a table by `names`.
local function tensors_of(what, value, names, count, side)
  if core.is_tensor(value) then value = { value } end
  if not is_plain(value) then
    options.raise(("%s: needs a data set of batches, or tensors x and y, got %s"):format(what, options.shown(value)))
  end
  local list = {}
  for key in next, value do
    local known = math.type(key) == "integer"
    for _, name in ipairs(names) do known = known or name == key end
    if not known then
      options.raise(("%s: the model has no %s %s%s (%s)"):format(what, side, options.shown(key), options.advice(key, names),
        #names > 0 and side .. "s: " .. table.concat(names, ", ") or "it takes one tensor"))
    end
  end
  for i = 1, math.max(count, #value) do
    list[i] = value[i]
    if list[i] == nil and names[i] then list[i] = value[names[i]] end
    if not core.is_tensor(list[i]) then
      options.raise(("%s: the %s %s must be a tensor, got %s"):format(what, side, names[i] and ("%q"):format(names[i]) or i, options.shown(list[i])))
    end
  end
  if #list ~= count then
    options.raise(("%s: the model has %d %s%s%s, got %d"):format(what, count, side, count == 1 and "" or "s",
      #names > 0 and " (" .. table.concat(names, ", ") .. ")" or "", #list))
  end
  return list
end

-- { x, y } or { x, y, weights } in one table, where y was not given apart: not a list of inputs.
local function is_pair(data, sides)
  if not is_plain(data) then return false end
  return is_plain(data[1]) or is_plain(data[2]) or sides.n == 1 and data[1] ~= nil
end

-- Weights of samples in order: one tensor for all targets, a list, or a table by their names.
local function weights_list(what, weight, sides)
  if weight == nil or core.is_tensor(weight) then return { weight } end
  return tensors_of(what .. ": sample_weight", weight, sides.targets, math.max(1, sides.m), "target")
end

local function check_sizes(what, list, sides)
  local size = list[1]:size(1)
  for i = 2, #list do
    if list[i]:size(1) ~= size then
      local function call(k)
        if k <= sides.n then return sides.n == 1 and "x" or sides.inputs[k] end
        if k > sides.n + sides.m then return "sample_weight" end
        return sides.m == 1 and "y" or "the target " .. sides.targets[k - sides.n]
      end
      options.raise(("%s: %s has %d samples but %s has %d"):format(what, call(1), size, call(i), list[i]:size(1)))
    end
  end
end

-- All tensors in order, inputs, targets, weights; nil when a data set was given. x and y are tensors, lists or tables by name.
local function collect(what, self, c, o)
  local data, y, weight, sides = o.data, o.y, o.sample_weight, sides_of(self, c)
  if is_dataset(data) then
    for _, key in ipairs { "y", "sample_weight" } do
      if o[key] ~= nil then
        options.raise(("%s: a data set brings its own targets and weights (its elements are x, y or x, y, weight); leave out %s"):format(what, key))
      end
    end
    return nil
  end
  if y == nil and is_pair(data, sides) then
    data, y, weight = data[1], data[2], weight or data[3]
  end
  local list = tensors_of(what, data, sides.inputs, sides.n, "input")
  if y ~= nil and c then
    for i, target in ipairs(tensors_of(what, y, sides.targets, sides.m, "target")) do list[sides.n + i] = target end
    for _, w in ipairs(weights_list(what, weight, sides)) do list[#list + 1] = w end
  end
  check_sizes(what, list, sides)
  return list
end

local function batched(list, batch_size, shuffle)
  local ds = require("nnlua.data").from_tensors(list)
  if shuffle then ds = ds:shuffle(list[1]:size(1)) end
  return ds:batch(batch_size)
end

--- A data set of batches from what the user gave as `o`: data (a data set; x; or { x, y[, sample_weight] }), y, sample_weight, batch_size, shuffle.
---@param what string who asks, for messages
function feed.dataset(what, self, c, o)
  local list = collect(what, self, c, o)
  return list and batched(list, o.batch_size, o.shuffle) or o.data
end

--- As feed.dataset, in two: the last `share` of the samples, before any shuffling, is the second one.
function feed.split(what, self, c, o, share)
  local list = collect(what, self, c, o)
  if not list then options.raise(what .. ": validation_split needs tensors x and y; of a data set use take and skip, and validation =") end
  local n = list[1]:size(1)
  local first = math.floor(n * (1 - share))
  if first == 0 or first == n then options.raise(("%s: validation_split = %g leaves one part of %d samples empty"):format(what, share, n)) end
  local train, rest = {}, {}
  for i, t in ipairs(list) do train[i], rest[i] = t:narrow(1, 1, first), t:narrow(1, first + 1, n - first) end
  return batched(train, o.batch_size, o.shuffle), batched(rest, o.validation_batch_size)
end

-- An element as inputs, targets and weights. Elements are x, y, weight; or tables of tensors; or all tensors one after the other: inputs, targets,
-- and one weight for all targets or one for each.
local function regrouped(sides, ...)
  local x, at = ..., 2
  if x == nil or type(x) ~= "table" and sides.n == 1 and sides.m <= 1 then return ... end
  local count = select("#", ...)
  if type(x) ~= "table" and sides.n > 1 then
    if count < sides.n then options.raise(("the data set gives %d values, the model has %d inputs"):format(count, sides.n)) end
    x, at = table.move({ ... }, 1, sides.n, 1, {}), sides.n + 1
  end
  local y, rest = select(at, ...), at + 1
  if y ~= nil and type(y) ~= "table" and sides.m > 1 then
    if count - at + 1 < sides.m then
      options.raise(("the data set gives %d target%s, the model needs %d (%s)"):format(count - at + 1, count == at and "" or "s", sides.m,
        table.concat(sides.targets, ", ")))
    end
    y, rest = table.move({ select(at, ...) }, 1, sides.m, 1, {}), at + sides.m
  end
  if count <= rest then return x, y, (select(rest, ...)) end
  return x, y, { select(rest, ...) }
end

local function batch_of(x, y, weight)
  if x ~= nil then return { x = x, y = y, weight = weight } end
end

--- for b in feed.batches(self, c, ds, limit): one pass, or the first `limit` batches of it, as batch.lua takes them.
function feed.batches(self, c, ds, limit)
  local sides = sides_of(self, c)
  local iterate, state, control, closing = ds:iter()
  local left = limit or math.huge
  return function()
    left = left - 1
    if left < 0 then return nil end
    return batch_of(regrouped(sides, iterate(state, control)))
  end, nil, nil, closing
end

--- Passes over a data set without an end, for epochs of so many steps: `passes:take(n)` iterates over the next n batches and begins a new pass where
--- one ends.
function feed.passes(self, c, ds)
  local sides, passes = sides_of(self, c), {}
  local iterate, state, control, closing
  local function begin() iterate, state, control, closing = ds:iter() end
  function passes.close()
    local _ <close> = closing
    iterate, closing = nil, nil
  end
  local function next_batch()
    if not iterate then begin() end
    local b = batch_of(regrouped(sides, iterate(state, control)))
    if b then return b end
    passes.close()
    begin()
    return batch_of(regrouped(sides, iterate(state, control)))
  end
  function passes.take(n)
    return function()
      n = n - 1
      if n >= 0 then return next_batch() end
    end
  end
  return setmetatable(passes, { __close = passes.close })
end

--- Batches of a pass: nil when that is not known.
function feed.cardinality(ds)
  local n = ds.cardinality and ds:cardinality()
  return type(n) == "number" and n >= 0 and n < math.huge and n or nil
end

--- Raise when a pass over ds would never end; `option` is what limits it.
function feed.check_end(what, ds, option)
  if ds.cardinality and ds:cardinality() == math.huge then
    options.raise(("%s: the data set never ends; say how many batches are to be used: %s ="):format(what, option))
  end
end

function feed.target_missing(what)
  options.raise(what .. ": the data set gives no targets; its elements must be x and y")
end

return feed
