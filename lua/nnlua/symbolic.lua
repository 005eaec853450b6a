--- Symbolic tensors: what stands for a batch while a model is put together: `local h = nn.Dense{10}(nn.Input{784})`.
--
-- Owns: symbols, the calls (nodes) that make them, the shapes and dtypes that follow. nn.Model makes a module of them.
-- A module that is called on a symbol, an nn.Input or a list of these gives symbols: one for each tensor that it would return. Operators and
-- methods of tensors work on them too (`a + b`, `a:reshape{-1, 8}`, `a:exp()`): each becomes a layer of the model.
--
--     local nn = require "nnlua"
--     local a, b = nn.Input{8}, nn.Input{8}
--     local h = nn.Dense{4, activation = "relu"}(a) + nn.Dense{4}(b)
--     print(h, h:size(-1))                           --> SymbolicTensor(N, 4) f32 of Add  4
--
-- Shapes and dtypes come from the layer itself: it is called on a stand-in of a few samples, whose operators are recorded and dropped before they
-- run. So whatever computes has a shape here. The size of the batch is not known: a result must keep it in front.
--
-- Invariant: a node never changes; `serial` grows from a node to those that read from it.

local core = require "nnlua.core"
local class = require "nnlua.class"
local options = require "nnlua.options"

local symbolic = {}

local BATCH = 7 -- samples of a stand-in

---@class nnlua.SymbolicTensor
---@field sample integer[]   shape of one sample
---@field dtype_name? string nil until it is asked for
---@field node table         { layer =, arguments =, symbols =, results =, serial = }
---@field place integer      which result of the node
local Symbol = class "SymbolicTensor"
symbolic.Symbol = Symbol

local function is_symbol(value) return type(value) == "table" and getmetatable(value) == Symbol end
symbolic.is_symbol = is_symbol

local function is_input(value)
  local c = type(value) == "table" and getmetatable(value)
  return type(c) == "table" and rawget(c, "keras") == "InputLayer"
end

-- A list or a table by name: what may hold symbols.
local function is_plain(value) return type(value) == "table" and getmetatable(value) == nil end

--- Does a call with these arguments put a model together? A symbol or an nn.Input is among them, or in a list among them.
---@return boolean
function symbolic.among(...)
  for i = 1, select("#", ...) do
    local value = select(i, ...)
    if is_symbol(value) or is_input(value) then return true end
    if is_plain(value) then
      for _, item in next, value do
        if is_symbol(item) or is_input(item) then return true end
      end
    end
  end
  return false
end

-- What messages call a layer: an Operation by its operator.
local function name_of(layer) return rawget(layer, "name") or rawget(layer, "op") or getmetatable(layer).__name end

-- ---- nodes -----------------------------------------------------------------------------------------------------------

local serial = 0

-- A new node without results.
local function new_node(layer, arguments, symbols)
  serial = serial + 1
  return { layer = layer, arguments = arguments, symbols = symbols, results = {}, serial = serial }
end

local function add_result(node, sample, dtype)
  local symbol = setmetatable({ sample = sample, dtype_name = dtype, node = node, place = #node.results + 1 }, Symbol)
  node.results[symbol.place] = symbol
  return symbol
end

--- The symbol of `value`: of an nn.Input the batch that comes in there. Nil of anything else.
---@return nnlua.SymbolicTensor?
function symbolic.symbol_of(value)
  if is_symbol(value) then return value end
  if not is_input(value) then return nil end
  local symbol = rawget(value, "output")
  if not symbol then
    value:build_once(value.shape)
    symbol = add_result(new_node(value, {}, {}), value.shape, value.dtype or "f32")
    rawset(value, "output", symbol)
  end
  return symbol
end

--- Note that `layer` makes a sample of shape `sample` of the symbol `from`, without asking the layer. For models whose shapes are known.
function symbolic.link(layer, from, sample)
  local symbol = add_result(new_node(layer, { from, n = 1 }, { from }), sample)
  if not rawget(layer, "output") then
    rawset(layer, "input", from)
    rawset(layer, "output", symbol)
  end
  return symbol
end

-- An equal call of another layer, for copies; `twin` gives the symbol to read from.
function symbolic.repeated(node, layer, twin)
  local args, symbols = symbolic.map(node.arguments, twin), {}
  for i, symbol in ipairs(node.symbols) do symbols[i] = twin(symbol) end
  local copy = new_node(layer, args, symbols)
  for _, result in ipairs(node.results) do add_result(copy, result.sample, result.dtype_name) end
  if not rawget(layer, "output") then
    rawset(layer, "input", symbols[1])
    rawset(layer, "output", copy.results[1])
  end
  return copy
end

--- `value` with f(symbol) in place of each symbol. Values that hold none are handed on as they are.
function symbolic.map(value, f)
  if is_symbol(value) then return f(value) end
  if not is_plain(value) then return value end
  local out = {}
  for key, item in next, value do out[key] = symbolic.map(item, f) end
  return out
end

-- ---- shapes ----------------------------------------------------------------------------------------------------------

--- "(N, 28, 28, 1)".
---@param sample integer[]
---@return string
function symbolic.shape_text(sample)
  local words = { "N" }
  for i, n in ipairs(sample) do words[i + 1] = n < 0 and "?" or ("%d"):format(n) end
  return "(" .. table.concat(words, ", ") .. ")"
end
local shape_text = symbolic.shape_text

local function inputs_text(symbols)
  local words = {}
  for i, symbol in ipairs(symbols) do words[i] = shape_text(symbol.sample) end
  return table.concat(words, ", ")
end

-- A batch that looks like the symbol's. Ones are class ids and numbers alike. `unknown` stands for sizes that are not known.
local function stand_in(symbol, batch, unknown, device)
  local shape = { batch }
  for i, n in ipairs(symbol.sample) do shape[i + 1] = n < 0 and unknown or n end
  local x = core.ones(shape, { dtype = symbol:dtype() })
  return x:device() == device and x or x:to(device)
end

local UNKNOWN, OTHER = 40, 56 -- sizes that stand for unknown ones: long enough for windows

--- Stand-ins for the arguments of a call.
---@param node table
---@param batch integer
---@param unknown? integer
function symbolic.arguments(node, batch, unknown)
  local args, device, values = node.arguments, node.layer:device(), { n = node.arguments.n }
  for i = 1, args.n do
    values[i] = symbolic.map(args[i], function(symbol) return stand_in(symbol, batch, unknown or UNKNOWN, device) end)
  end
  return values
end

--- What the layer of a node gives for `values`, in inference mode: a list of tensors. Whether they are computed is up to the caller.
---@param node table
---@param values table
function symbolic.call(node, values)
  local layer, was_training = node.layer, node.layer.training
  layer:eval() -- no draws, no running averages
  local _ <close> = core.no_grad()
  local list = table.pack(pcall(layer, table.unpack(values, 1, values.n)))
  layer:train(was_training)
  if not list[1] then error(list[2], 0) end
  return table.move(list, 2, list.n + 1, 1, {})
end

-- Shapes (with the batch) and dtypes of a node's results: a list of { shape =, dtype = }.
local function probe(node, unknown)
  local eager, list = core.eager(false), {}
  local ok, results
  do
    local _ <close> = core.scope() -- what is recorded here expires before it runs
    ok, results = pcall(symbolic.call, node, symbolic.arguments(node, BATCH, unknown))
    for i, value in ipairs(ok and results or {}) do
      if not core.is_tensor(value) then
        ok, results = false, ("it gives %s; on symbolic tensors a layer must give tensors"):format(options.shown(value))
        break
      end
      list[i] = { shape = value:shape(), dtype = value:dtype() }
    end
  end
  core.eager(eager)
  return ok and list or nil, results
end

local function has_unknown(symbols)
  for _, symbol in ipairs(symbols) do
    for _, n in ipairs(symbol.sample) do
      if n < 0 then return true end
    end
  end
  return false
end

-- The shape of a sample from one result, and from the same for other unknown sizes: what differs is not known.
local function sample_of(name, result, other)
  local shape, sample = result.shape, {}
  if shape[1] ~= BATCH then
    options.raise(("%s: its result is %s for %d samples: it has not the batch in front; reduce and reshape within samples: dim 1 is the batch, -1 "
      .. "its size"):format(name, #shape == 0 and "a scalar" or table.concat(shape, "x"), BATCH))
  end
  for i = 2, #shape do sample[i - 1] = other and other.shape[i] ~= shape[i] and -1 or shape[i] end
  return sample
end

-- Fills in the results of a node by asking its layer.
local function infer(node, name)
  local list, why = probe(node, UNKNOWN)
  local others = list and has_unknown(node.symbols) and probe(node, OTHER)
  if not list then
    why = type(why) == "string" and why or tostring(why)
    local at = why:match "^[^\n]-:%d+: " -- an error of the layer's has its place and name
    if not at then options.raise(("%s: %s; given %s"):format(name, why, inputs_text(node.symbols))) end
    error(("%s; given %s"):format(why, inputs_text(node.symbols)), 0)
  end
  if #list == 0 then options.raise(("%s: gives no tensor"):format(name)) end
  for i, result in ipairs(list) do
    local sample = sample_of(name, result, others and others[i])
    if node.results[i] then
      node.results[i].dtype_name = result.dtype
    else
      add_result(node, sample, result.dtype)
    end
  end
end

--- Call `layer` on symbols: gives symbols. nnlua.module does this when symbolic.among says so.
function symbolic.apply(layer, ...)
  local args, symbols = table.pack(...), {}
  local function note(value)
    local symbol = symbolic.symbol_of(value)
    if symbol then
      symbols[#symbols + 1] = symbol
      return symbol
    elseif core.is_tensor(value) then
      options.raise(("%s: a tensor and a symbolic tensor in one call; make the tensor a layer's weight, or an input"):format(
        name_of(layer)))
    elseif not is_plain(value) then
      return value
    end
    local out, keys = {}, {}
    for key in next, value do keys[#keys + 1] = key end
    table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
    for i, item in ipairs(value) do out[i] = note(item) end
    for _, key in ipairs(keys) do
      if out[key] == nil then out[key] = note(value[key]) end
    end
    return out
  end
  for i = 1, args.n do args[i] = note(args[i]) end
  if layer.several and #symbols > 0 then -- its own words about the shapes
    layer:build_for(args.n == 1 and is_plain(args[1]) and args[1] or args)
  elseif args.n == 1 and is_symbol(args[1]) and layer.build_once then
    layer:build_once(args[1].sample)
  end
  local node = new_node(layer, args, symbols)
  infer(node, name_of(layer))
  if not rawget(layer, "output") then
    rawset(layer, "input", symbols[1])
    rawset(layer, "output", node.results[1])
  end
  return table.unpack(node.results)
end

-- ---- what can be asked of a symbol -----------------------------------------------------------------------------------

--- The shape with the batch, whose size is not known: -1.
---@return integer[]
function Symbol:shape() return { -1, table.unpack(self.sample) } end

--- The size of a dim, or all of them; -1 where it is not known.
---@param dim? integer
---@return integer ...
function Symbol:size(dim)
  local shape = self:shape()
  if not dim then return table.unpack(shape) end
  local n = math.type(dim) == "integer" and dim ~= 0 and shape[dim < 0 and #shape + 1 + dim or dim]
  return n or options.raise(("size: there is no dim %s, the symbolic tensor is %s"):format(options.shown(dim), shape_text(self.sample)))
end

--- Number of dims, the batch among them.
function Symbol:dim() return #self.sample + 1 end

---@return string
function Symbol:dtype()
  if not self.dtype_name then infer(self.node, "dtype") end
  return self.dtype_name
end

function Symbol:__tostring()
  return ("SymbolicTensor%s %s of %s"):format(shape_text(self.sample), self:dtype(), name_of(self.node.layer))
end

-- ---- operators -------------------------------------------------------------------------------------------------------

local function layer(name, given)
  for _, file in ipairs { "nnlua.layers.merge", "nnlua.layers.core", "nnlua.layers.operation" } do
    local c = require(file)[name]
    if c then return c(given) end
  end
end

local function operation(op, ...) return symbolic.apply(layer("Operation", { op }), ...) end

-- Two symbols make the layer that Keras has; a symbol and a number scale and shift.
local function operator(name, op, merge, scaling)
  symbolic["__" .. name] = function(a, b)
    local x, y = symbolic.symbol_of(a), symbolic.symbol_of(b)
    for _, v in ipairs { a, b } do
      if not (symbolic.symbol_of(v) or type(v) == "number") then
        options.raise(("%s: a symbolic tensor and %s do not go together; it takes symbolic tensors and numbers"):format(op, options.shown(v)))
      end
    end
    if x and y and merge then return layer(merge, {}) { x, y } end
    local scale, offset
    if scaling and not (x and y) then scale, offset = scaling(not y and b, not x and a) end
    if scale then return layer("Rescaling", { scale, offset })(x or y) end
    return operation(op, x or a, y or b)
  end
  Symbol["__" .. name] = symbolic["__" .. name]
end

operator("add", "add", "Add", function(b, a) return 1, b or a end)
operator("sub", "sub", "Subtract", function(b, a) if b then return 1, -b end return -1, a end)
operator("mul", "mul", "Multiply", function(b, a) return b or a, 0 end)
operator("div", "div")
operator("pow", "pow")
function symbolic.__unm(a) return layer("Rescaling", { -1 })(a) end
Symbol.__unm = symbolic.__unm

--- Let the objects of a class (nn.Input) be used in sums and products as their symbols.
function symbolic.lend_operators(c)
  for _, name in ipairs { "__add", "__sub", "__mul", "__div", "__pow", "__unm" } do c[name] = symbolic[name] end
end

local valueless = { item = true, totable = true, tostring = true, backward = true, numel = true, grad = true, assign = true, save = true }

-- Operators that tensors have as methods, by name: what nnlua.layers.operation runs. Nothing else can be named in a file.
local recordable
function symbolic.recordable(name)
  if not recordable then
    recordable = {}
    for _, op in ipairs(core.ops()) do recordable[op.name] = true end
    for _, op in ipairs(require("nnlua.functional").rows) do recordable[op.name] = true end
    for op in pairs { float = 1, long = 1, to = 1, split = 1, chunk = 1, unbind = 1, detach = 1 } do recordable[op] = true end
    for op in pairs(valueless) do recordable[op] = nil end
  end
  return recordable[name] and rawget(core.tensor_metatable.methods, name) or nil
end

local methods = {} -- name -> function that records the operator
setmetatable(Symbol, { __name = "class", __index = function(_, name)
  if type(name) ~= "string" or name:find "^__" or name == "dtype_name" then return nil end
  if symbolic.recordable(name) then
    methods[name] = methods[name] or function(...) return operation(name, ...) end
    return methods[name]
  elseif valueless[name] or rawget(core.tensor_metatable.methods, name) then
    options.raise(("%s: a symbolic tensor has no values; make nn.Model{ inputs = ..., outputs = ... } of it and call that"):format(name))
  end
  local names = { "shape", "size", "dim", "dtype", "sample" }
  for op in pairs(recordable) do names[#names + 1] = op end
  table.sort(names)
  options.raise(("a symbolic tensor has no %s%s"):format(name, options.advice(name, names)))
end })

return symbolic
