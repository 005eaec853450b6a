--- What fit, evaluate and predict are fed with: from what the user gave to batches of inputs and targets.
--
-- Owns: which tensors are inputs and which are targets, and their order.

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
      local near = type(key) == "string" and options.nearest(key, names)
      options.raise(("%s: the model has no %s %s%s (%s)"):format(what, side, options.shown(key), near and ('; did you mean "' .. near .. '"?') or "",
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

-- { x, y } in one table, where y was not given apart: not a list of inputs.
local function is_pair(data, sides)
  if not is_plain(data) then return false end
  return is_plain(data[1]) or is_plain(data[2]) or sides.n == 1 and data[1] ~= nil
end

-- A data set of batches from what the user gave: a data set; x and y; { x, y }. x and y are tensors, lists or tables by name.
function feed.dataset(what, self, c, data, y, batch_size, shuffle)
  if is_dataset(data) then
    if y ~= nil then options.raise(what .. ": a data set brings its own targets; leave out the second value") end
    return data
  end
  local sides = sides_of(self, c)
  if y == nil and is_pair(data, sides) then data, y = data[1], data[2] end
  local list = tensors_of(what, data, sides.inputs, sides.n, "input")
  if y ~= nil and c then
    for i, target in ipairs(tensors_of(what, y, sides.targets, sides.m, "target")) do list[sides.n + i] = target end
  end
  local size = list[1]:size(1)
  for i = 2, #list do
    if list[i]:size(1) ~= size then
      local function call(k)
        if k <= sides.n then return sides.n == 1 and "x" or sides.inputs[k] end
        return sides.m == 1 and "y" or "the target " .. sides.targets[k - sides.n]
      end
      options.raise(("%s: %s has %d samples but %s has %d"):format(what, call(1), size, call(i), list[i]:size(1)))
    end
  end
  local ds = require("nnlua.data").from_tensors(list)
  if shuffle then ds = ds:shuffle(size) end
  return ds:batch(batch_size)
end

-- An element as inputs and targets. Elements are x, y; or tables of tensors; or all tensors one after the other, inputs first.
local function regrouped(sides, ...)
  local x, at = ..., 2
  if x == nil or type(x) ~= "table" and sides.n == 1 and sides.m <= 1 then return ... end
  local count = select("#", ...)
  if type(x) ~= "table" and sides.n > 1 then
    if count < sides.n then options.raise(("the data set gives %d values, the model has %d inputs"):format(count, sides.n)) end
    x, at = table.move({ ... }, 1, sides.n, 1, {}), sides.n + 1
  end
  local y = select(at, ...)
  if y ~= nil and type(y) ~= "table" and sides.m > 1 then
    if count - at + 1 < sides.m then
      options.raise(("the data set gives %d target%s, the model needs %d (%s)"):format(count - at + 1, count == at and "" or "s", sides.m,
        table.concat(sides.targets, ", ")))
    end
    y = table.move({ select(at, ...) }, 1, sides.m, 1, {})
  end
  return x, y
end

-- for x, y in batches(self, c, ds): tensors, or tables of them where there are several.
function feed.batches(self, c, ds)
  local sides = sides_of(self, c)
  local iterate, state, control, closing = ds:iter()
  if sides.n == 1 and sides.m <= 1 then return iterate, state, control, closing end
  return function() return regrouped(sides, iterate(state, control)) end, nil, nil, closing
end

function feed.cardinality(ds)
  local n = ds.cardinality and ds:cardinality()
  return type(n) == "number" and n >= 0 and n < math.huge and n or nil
end

function feed.target_missing(what)
  options.raise(what .. ": the data set gives no targets; its elements must be x and y")
end

return feed
