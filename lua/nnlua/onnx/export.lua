--- Models as ONNX graphs (operators of version 17).
--
-- Owns: which nodes a layer becomes. A value of the graph is known channels last (as here), channels first (as ONNX's convolutions want it) or
-- both: a Transpose is put in only where the other one is needed, so a chain of convolutions has one in front and one behind. Batches are of any
-- size. Weights go into the file from where they lie. A layer that has no entry in `emit`, or an option that has no counterpart, raises an error by
-- its name.

local core = require "nnlua.core"
local options = require "nnlua.options"
local lists = require "nnlua.lists"
local activations = require "nnlua.activations"
local Module = require "nnlua.module"
local proto = require "nnlua.onnx.proto"

local export = {}
local IR, OPSET = 8, 17
local types = { f32 = 1, u8 = 2, i32 = 6, i64 = 7, bool = 9, f16 = 10, f64 = 11, bf16 = 16 }

-- ---- bytes: lists of strings and tensors with a size, so that weights are never copied into a string ----------------------------------

local element_sizes = { f32 = 4, u8 = 1, i32 = 4, i64 = 8, bool = 1, f16 = 2, f64 = 8, bf16 = 2 }

local function attribute(name, value)
  local body, kind = proto.bytes(1, name), 7
  if math.type(value) == "integer" then body, kind = body .. proto.int(3, value), 2
  elseif math.type(value) == "float" then body, kind = body .. proto.float(2, value), 1
  elseif type(value) == "string" then body, kind = body .. proto.bytes(4, value), 3
  else
    for _, v in ipairs(value) do body = body .. proto.int(8, v) end
  end
  return body .. proto.int(20, kind)
end

local function value_info(name, dtype, sample)
  local dims = proto.bytes(1, proto.bytes(2, "N"))
  for _, n in ipairs(sample) do dims = dims .. proto.bytes(1, n >= 0 and proto.int(1, n) or proto.bytes(2, "any")) end
  return proto.bytes(1, name) .. proto.bytes(2, proto.bytes(1, proto.int(1, types[dtype]) .. proto.bytes(2, dims)))
end

-- ---- the graph ---------------------------------------------------------------------------------------------------------------------

local Graph = {}
Graph.__index = Graph

function Graph:name(wanted)
  local name, k = wanted, 1
  while self.taken[name] do name, k = ("%s_%d"):format(wanted, k), k + 1 end
  self.taken[name] = true
  return name
end

--- A node with one result; its name.
function Graph:node(op, inputs, given)
  local out = self:name(("%s/%s"):format(self.scope, op))
  local body = ""
  for _, name in ipairs(inputs) do body = body .. proto.bytes(1, name) end
  body = body .. proto.bytes(2, out) .. proto.bytes(3, out) .. proto.bytes(4, op)
  for _, key in ipairs(lists.sorted(given or {})) do body = body .. proto.bytes(5, attribute(key, given[key])) end
  self.nodes[#self.nodes + 1] = proto.bytes(1, body)
  return out
end

--- The name of a tensor in the file; the same tensor is written once, unless it was `changed` from a weight.
function Graph:tensor(t, hint)
  if self.tensors[t] then return self.tensors[t] end
  local name = self:name(("%s/%s"):format(self.scope, hint))
  local head = ""
  for _, n in ipairs(t:shape()) do head = head .. proto.int(1, n) end
  local bytes = t:numel() * element_sizes[t:dtype()]
  head = head .. proto.int(2, types[t:dtype()]) .. proto.bytes(8, name) .. proto.head(9, bytes)
  local parts = self.initial
  parts[#parts + 1] = proto.head(5, #head + bytes) .. head
  parts[#parts + 1] = t:detach()
  parts.size = parts.size + #parts[#parts - 1] + bytes
  self.tensors[t] = name
  return name
end

function Graph:ints(list) return self:tensor(#list > 0 and core.tensor(list, { dtype = "i64" }) or core.zeros({ 0 }, "i64"), "sizes") end
function Graph:number(v) return self:tensor(core.tensor(v, { dtype = self.dtype }), "number") end

-- Values: { last = name, first = name, sample = shape channels last }
local function value(sample, last, first) return { sample = sample, last = last, first = first } end

function Graph:last(v)
  if not v.last then
    local order, r = { 0 }, #v.sample + 1
    for d = 2, r - 1 do order[#order + 1] = d end
    order[#order + 1] = 1
    v.last = self:node("Transpose", { v.first }, { perm = order })
  end
  return v.last
end

function Graph:first(v)
  if not v.first then
    local order, r = { 0, #v.sample }, #v.sample + 1
    if r <= 2 then
      v.first = v.last
    else
      for d = 1, r - 2 do order[#order + 1] = d end
      v.first = self:node("Transpose", { v.last }, { perm = order })
    end
  end
  return v.first
end

-- f, element by element, on whichever of the two there is.
local function pointwise(v, f)
  if v.first and not v.last then return value(v.sample, nil, f(v.first)) end
  return value(v.sample, f(v.last))
end

local function refuse(layer, text, ...)
  options.raise(("onnx.save: %s (%s): %s"):format(rawget(layer, "name") or "?", getmetatable(layer).__name, text:format(...)))
end

-- ---- activations ---------------------------------------------------------------------------------------------------------------------

local simple = { relu = { "Relu" }, sigmoid = { "Sigmoid" }, tanh = { "Tanh" }, exponential = { "Exp" }, elu = { "Elu" }, celu = { "Celu" },
  selu = { "Selu" }, softplus = { "Softplus" }, softsign = { "Softsign" }, hard_sigmoid = { "HardSigmoid", { alpha = 1 / 6, beta = 0.5 } },
  hard_swish = { "HardSwish" }, leaky_relu = { "LeakyRelu", { alpha = 0.2 } } }
simple.hard_silu = simple.hard_swish
local composed = {}
function composed.relu6(g, x) return g:node("Clip", { x, g:number(0), g:number(6) }) end
function composed.hard_tanh(g, x) return g:node("Clip", { x, g:number(-1), g:number(1) }) end
function composed.silu(g, x) return g:node("Mul", { x, g:node("Sigmoid", { x }) }) end
function composed.mish(g, x) return g:node("Mul", { x, g:node("Tanh", { g:node("Softplus", { x }) }) }) end
function composed.log_sigmoid(g, x) return g:node("Neg", { g:node("Softplus", { g:node("Neg", { x }) }) }) end
composed.swish = composed.silu

local function activate(g, layer, v, name)
  if name == "linear" then return v end
  if name == "softmax" or name == "log_softmax" then
    return value(v.sample, g:node(name == "softmax" and "Softmax" or "LogSoftmax", { g:last(v) }, { axis = -1 }))
  end
  if simple[name] then return pointwise(v, function(x) return g:node(simple[name][1], { x }, simple[name][2]) end) end
  if composed[name] then return pointwise(v, function(x) return composed[name](g, x) end) end
  refuse(layer, "the activation %s has no counterpart here", name)
end

local function activated(g, layer, v)
  local _, name = activations.get(layer.activation)
  return activate(g, layer, v, name)
end

-- ---- layers --------------------------------------------------------------------------------------------------------------------------

local emit = {}
local function define(names, f)
  for name in names:gmatch "%w+" do emit[name] = f end
end

define([[Input Dropout Identity GaussianNoise GaussianDropout AlphaDropout SpatialDropout1D SpatialDropout2D SpatialDropout3D DropPath
  ActivityRegularization]], function(_, _, v) return v end)

function emit.Dense(g, layer, v, sample)
  local y = g:node("MatMul", { g:last(v), g:tensor(layer.kernel, "kernel") })
  if layer.bias then y = g:node("Add", { y, g:tensor(layer.bias, "bias") }) end
  return activated(g, layer, value(sample, y))
end

-- (k..., I, O) -> (O, I, k...)
local function channels_first(t)
  local n = t:dim()
  local order = { n, n - 1 }
  for d = 1, n - 2 do order[#order + 1] = d end
  return t:permute(order):contiguous()
end

local function window(layer, kernel, strides)
  local a = { kernel_shape = kernel, strides = strides, dilations = layer.dilation_rate }
  if layer.padding == "same" then a.auto_pad = "SAME_UPPER"
  elseif layer.padding == "causal" then a.pads = { layer.dilation_rate[1] * (kernel[1] - 1), 0 } end
  return a
end

local function conv(g, layer, v, sample, kernel, groups, bias)
  local a, inputs = window(layer, layer.kernel_size, layer.strides), { g:first(v), g:tensor(kernel, "kernel") }
  a.group = groups
  inputs[3] = bias and g:tensor(bias, "bias")
  return value(sample, nil, g:node("Conv", inputs, a))
end

define("Conv1D Conv2D Conv3D", function(g, layer, v, sample)
  return activated(g, layer, conv(g, layer, v, sample, channels_first(layer.kernel), layer.groups, layer.bias))
end)

define("Conv1DTranspose Conv2DTranspose Conv3DTranspose", function(g, layer, v, sample)
  local s = layer.settings
  local inputs = { g:first(v), g:tensor(channels_first(layer.kernel), "kernel"), layer.bias and g:tensor(layer.bias, "bias") }
  return activated(g, layer, value(sample, nil, g:node("ConvTranspose", inputs, { kernel_shape = layer.kernel_size, strides = layer.strides,
    dilations = layer.dilation_rate, pads = s.padding, output_padding = s.output_padding })))
end)

-- (k..., C, M) -> (C M, 1, k...)
local function by_channel(t)
  local shape, order = t:shape(), {}
  local n = #shape
  order[1], order[2] = n - 1, n
  for d = 1, n - 2 do order[d + 2] = d end
  local wide = { shape[n - 1] * shape[n], 1, table.unpack(shape, 1, n - 2) }
  return t:permute(order):reshape(wide):contiguous(), shape[n - 1]
end

define("DepthwiseConv1D DepthwiseConv2D", function(g, layer, v, sample)
  local kernel, channels = by_channel(layer.kernel)
  return activated(g, layer, conv(g, layer, v, sample, kernel, channels, layer.bias))
end)

define("SeparableConv1D SeparableConv2D", function(g, layer, v, sample)
  local kernel, channels = by_channel(layer.depthwise_kernel)
  local h = conv(g, layer, v, sample, kernel, channels)
  local inputs = { h.first, g:tensor(channels_first(layer.pointwise_kernel), "pointwise"), layer.bias and g:tensor(layer.bias, "bias") }
  return activated(g, layer, value(sample, nil, g:node("Conv", inputs)))
end)

define("BatchNorm", function(g, layer, v, sample)
  if layer.axis ~= -1 then refuse(layer, "axis %d; the last dim is written", layer.axis) end
  local c = layer.moving_mean:shape()
  local inputs = { g:first(v), g:tensor(layer.gamma or core.ones(c), "gamma"), g:tensor(layer.beta or core.zeros(c), "beta"),
    g:tensor(layer.moving_mean, "mean"), g:tensor(layer.moving_variance, "variance") }
  local y = g:node("BatchNormalization", inputs, { epsilon = layer.epsilon + 0.0 })
  return #sample == 1 and value(sample, y, y) or value(sample, nil, y)
end)

function emit.LayerNorm(g, layer, v, sample)
  if layer.axis ~= -1 then refuse(layer, "its axis is not -1") end
  local inputs = { g:last(v), g:tensor(layer.gamma or core.ones { sample[#sample] }, "gamma"), layer.beta and g:tensor(layer.beta, "beta") }
  return value(sample, g:node("LayerNormalization", inputs, { axis = -1, epsilon = layer.epsilon + 0.0 }))
end

for rank = 1, 3 do
  for kind, op in pairs { Max = "MaxPool", Average = "AveragePool" } do
    emit[("%sPooling%dD"):format(kind, rank)] = function(g, layer, v, sample)
      return value(sample, nil, g:node(op, { g:first(v) }, window(layer, layer.pool_size, layer.strides)))
    end
    emit[("Global%sPooling%dD"):format(kind, rank)] = function(g, layer, v, sample)
      local y = g:node("Global" .. op, { g:first(v) })
      if layer.keepdims then return value(sample, nil, y) end
      return value(sample, g:node("Flatten", { y }, { axis = 1 }))
    end
  end
end

function emit.Flatten(g, _, v, sample) return value(sample, g:node("Flatten", { g:last(v) }, { axis = 1 })) end
function emit.Reshape(g, _, v, sample)
  for _, n in ipairs(sample) do
    if n < 0 then options.raise "onnx.save: Reshape: sizes that are not known are not written" end
  end
  return value(sample, g:node("Reshape", { g:last(v), g:ints { -1, table.unpack(sample) } }))
end
function emit.Permute(g, layer, v, sample)
  local order = {}
  for i, d in ipairs(layer.order) do order[i] = d - 1 end
  return value(sample, g:node("Transpose", { g:last(v) }, { perm = order }))
end
function emit.Rescaling(g, layer, v, sample)
  if type(layer.scale) == "table" or type(layer.offset) == "table" then -- one for each channel
    local function constant(n, hint) return type(n) == "table" and g:tensor(core.tensor(n, { dtype = "f32" }), hint) or g:number(n) end
    return value(sample, g:node("Add", { g:node("Mul", { g:last(v), constant(layer.scale, "scale") }), constant(layer.offset, "offset") }))
  end
  return pointwise(v, function(x)
    local y = g:node("Mul", { x, g:number(layer.scale) })
    return layer.offset == 0 and y or g:node("Add", { y, g:number(layer.offset) })
  end)
end
function emit.Normalization(g, layer, v, sample)
  local given = layer.given_tensors
  local mean = given and given[1] or layer.mean:reshape(layer.spread)
  local deviation = (given and given[2] or layer.variance:reshape(layer.spread)):sqrt():maximum(1e-7)
  local x, m, d = g:last(v), g:tensor(mean, "mean"), g:tensor(deviation, "deviation")
  if layer.invert then return value(sample, g:node("Add", { g:node("Mul", { x, d }), m })) end
  return value(sample, g:node("Div", { g:node("Sub", { x, m }), d }))
end
define("ZeroPadding1D ZeroPadding2D ZeroPadding3D", function(g, layer, v, sample)
  local before, after = { 0, 0 }, { 0, 0 }
  for _, side in ipairs(layer.sides) do before[#before + 1], after[#after + 1] = side[1], side[2] end
  return value(sample, nil, g:node("Pad", { g:first(v), g:ints(table.move(after, 1, #after, #before + 1, before)) }))
end)

function emit.Embedding(g, layer, v, sample)
  if layer.mask_zero then refuse(layer, "mask_zero has no counterpart") end
  local ids = g:node("Sub", { g:node("Cast", { g:last(v) }, { to = types.i64 }), g:tensor(core.tensor(1, { dtype = "i64" }), "one") }) -- ids from 0
  return value(sample, g:node("Gather", { g:tensor(layer.embeddings, "embeddings"), ids }, { axis = 0 }))
end

-- activations as layers
function emit.Activation(g, layer, v) return activated(g, layer, v) end
for class_name, name in pairs { ReLU6 = "relu6", Sigmoid = "sigmoid", Tanh = "tanh", Exponential = "exponential", SELU = "selu", SiLU = "silu",
  Mish = "mish", Softplus = "softplus", Softsign = "softsign", LogSigmoid = "log_sigmoid", HardSigmoid = "hard_sigmoid", HardSwish = "hard_swish",
  HardTanh = "hard_tanh" } do
  emit[class_name] = function(g, layer, v) return activate(g, layer, v, name) end
end
for class_name, op in pairs { Softmax = "Softmax", LogSoftmax = "LogSoftmax" } do
  emit[class_name] = function(g, layer, v)
    return value(v.sample, g:node(op, { g:last(v) }, { axis = layer.axis > 0 and layer.axis - 1 or layer.axis }))
  end
end
function emit.ReLU(g, layer, v)
  if layer.negative_slope ~= 0 or layer.threshold ~= 0 then refuse(layer, "negative_slope and threshold have no counterpart; use LeakyReLU") end
  return pointwise(v, function(x)
    return layer.max_value and g:node("Clip", { x, g:number(0), g:number(layer.max_value) }) or g:node("Relu", { x })
  end)
end
function emit.LeakyReLU(g, layer, v)
  return pointwise(v, function(x) return g:node("LeakyRelu", { x }, { alpha = layer.negative_slope + 0.0 }) end)
end
for class_name, op in pairs { ELU = "Elu", CELU = "Celu" } do
  emit[class_name] = function(g, layer, v) return pointwise(v, function(x) return g:node(op, { x }, { alpha = layer.alpha + 0.0 }) end) end
end
function emit.PReLU(g, layer, v) return value(v.sample, g:node("PRelu", { g:last(v), g:tensor(layer.alpha, "alpha") })) end

-- ---- recurrent: gates in ONNX's order, X (T, N, C) ----------------------------------------------------------------------------------

local gates = { LSTM = { 1, 4, 2, 3 }, GRU = { 1, 2, 3 }, SimpleRNN = { 1 } } -- i f c o -> i o f c
local onnx_names = { LSTM = "LSTM", GRU = "GRU", SimpleRNN = "RNN" }

local function recurrent(g, layer, v, sample)
  local kind = getmetatable(layer).__name
  local cell, order = layer.cell, gates[kind]
  local _, act = activations.get(cell.activation)
  local _, gate = activations.get(cell.recurrent_activation)
  if act ~= "tanh" or kind ~= "SimpleRNN" and gate ~= "sigmoid" then refuse(layer, "other activations than tanh and sigmoid are not written") end
  if layer.go_backwards or layer.return_state or layer.stateful then refuse(layer, "go_backwards, return_state and stateful are not written") end
  local function sorted(t) -- (.., G u) -> (1, G u, ..)
    local u, parts = cell.units, {}
    for i, k in ipairs(order) do parts[i] = t:narrow(t:dim(), (k - 1) * u + 1, u) end
    local y = core.cat(parts, t:dim())
    return (y:dim() == 2 and y:transpose(1, 2) or y):unsqueeze(1):contiguous()
  end
  local x = g:node("Transpose", { g:last(v) }, { perm = { 1, 0, 2 } })
  local inputs = { x, g:tensor(sorted(cell.kernel), "kernel"), g:tensor(sorted(cell.recurrent_kernel), "recurrent") }
  local a = { hidden_size = cell.units }
  local bias = cell.bias
  if bias then
    local one = bias:dim() == 2 and bias:narrow(1, 1, 1):reshape { -1 } or bias
    local two = bias:dim() == 2 and bias:narrow(1, 2, 1):reshape { -1 } or core.zeros_like(bias)
    inputs[4] = g:tensor(core.cat({ sorted(one), sorted(two) }, 2):contiguous(), "bias")
  end
  if kind == "GRU" then a.linear_before_reset = cell.reset_after and 1 or 0 end
  local y = g:node(onnx_names[kind], inputs, a) -- (T, 1, N, u)
  y = g:node("Squeeze", { y, g:ints { 1 } })
  if layer.return_sequences then return value(sample, g:node("Transpose", { y }, { perm = { 1, 0, 2 } })) end
  return value(sample, g:node("Gather", { y, g:tensor(core.tensor(-1, { dtype = "i64" }), "last") }, { axis = 0 }))
end
for kind in pairs(gates) do emit[kind] = recurrent end

-- ---- several inputs --------------------------------------------------------------------------------------------------------------------

local joins = { Add = "Add", Subtract = "Sub", Multiply = "Mul", Maximum = "Max", Minimum = "Min", Average = "Mean", Concatenate = "Concat" }

local function join(g, layer, list, sample)
  local kind = getmetatable(layer).__name
  local all_first = true
  for _, v in ipairs(list) do
    all_first = all_first and v.first ~= nil and #v.sample == #sample
    if kind ~= "Concatenate" and #v.sample ~= #sample then -- of as many dims, sizes of 1 are spread there too
      refuse(layer, "inputs of different numbers of dims are not written")
    end
  end
  local names, a = {}, nil
  if kind == "Concatenate" then
    all_first = all_first and layer.axis == -1
    a = { axis = all_first and 1 or layer.axis > 0 and layer.axis - 1 or layer.axis }
  end
  for i, v in ipairs(list) do names[i] = all_first and v.first or g:last(v) end
  local op = joins[kind]
  local function one(inputs) return g:node(op, inputs, a) end
  local y
  if kind == "Add" or kind == "Multiply" then -- of two
    y = names[1]
    for i = 2, #names do y = one { y, names[i] } end
  else
    y = one(names)
  end
  return all_first and #sample > 1 and value(sample, nil, y) or value(sample, y, all_first and y or nil)
end

-- ---- models ----------------------------------------------------------------------------------------------------------------------------

local emit_model

local function emit_layer(g, layer, list)
  local kind = getmetatable(layer).__name
  if kind == "Sequential" or kind == "Model" then
    local outs = emit_model(g, layer, list)
    if #outs ~= 1 then refuse(layer, "a model of several outputs within a model is not written") end
    return outs[1]
  end
  g.scope = rawget(layer, "name") or kind
  if joins[kind] then
    local samples = {}
    for i, v in ipairs(list) do samples[i] = v.sample end
    return join(g, layer, list, layer:output_shape(samples))
  end
  if not emit[kind] then refuse(layer, "this kind of layer is not written as ONNX") end
  if #list ~= 1 then refuse(layer, "takes one input, got %d", #list) end
  return emit[kind](g, layer, list[1], layer:output_shape(list[1].sample))
end

function emit_model(g, model, list)
  if getmetatable(model).__name == "Sequential" then
    local v = list[1]
    for i = 1, #model do v = emit_layer(g, model[i], { v }) end
    return { v }
  end
  local values = {}
  for i, symbol in ipairs(model.inputs) do values[symbol] = list[i] end
  for _, call in ipairs(model:call_list()) do
    local node = call.node
    if #node.symbols > 0 then
      local from = {}
      for i, symbol in ipairs(node.symbols) do from[i] = values[symbol] end
      if #node.results ~= 1 then refuse(call.layer, "layers with several results are not written") end
      values[node.results[1]] = emit_layer(g, call.layer, from)
    end
  end
  local out = {}
  for i, symbol in ipairs(model.outputs) do out[i] = values[symbol] end
  return out
end

-- The inputs of a model: { name =, sample =, dtype = }.
local function inputs_of(model)
  local list = {}
  if getmetatable(model).__name == "Sequential" then
    local first = model[1]
    local input = first and getmetatable(first).__name == "Input"
    list[1] = { name = input and first.name or "input", sample = rawget(model, "input_size"), dtype = input and first.dtype or nil }
  else
    for i, symbol in ipairs(model.inputs) do
      list[i] = { name = model.input_names[i], sample = symbol.sample, dtype = model.entries[symbol].layer.dtype }
    end
  end
  return list
end

local function built(model)
  local kind = Module.is_module(model) and getmetatable(model).__name
  if kind ~= "Sequential" and kind ~= "Model" then
    options.raise("onnx.save: needs a Sequential or Functional model, got " .. (kind or options.shown(model)))
  end
  local unbuilt = model:first_unbuilt()
  if unbuilt then options.raise(("onnx.save: %s is not built yet; call the model once, or model:build{sizes of one sample}"):format(unbuilt)) end
end

--- nn.onnx.save.
function export.save(file, model)
  built(model)
  local g = setmetatable({ taken = {}, nodes = {}, initial = { size = 0 }, tensors = {}, scope = "model", dtype = "f32" }, Graph)
  local outputs = getmetatable(model).__name == "Model" and model.output_names or { "output" }
  local inputs, list, ends = inputs_of(model), {}, {}
  for _, w in ipairs(model:weights()) do
    if w.tensor:dtype():find "f" then g.dtype = w.tensor:dtype() break end
  end
  for i, input in ipairs(inputs) do
    local dtype = types[input.dtype or ""] and input.dtype or g.dtype
    local name = g:name(input.name)
    ends[#ends + 1] = proto.bytes(11, value_info(name, dtype, input.sample))
    list[i] = value(input.sample, name)
  end
  for i, name in ipairs(outputs) do outputs[i] = g:name(name) end
  for i, v in ipairs(emit_model(g, model, list)) do
    local from = g:last(v)
    g.nodes[#g.nodes + 1] = proto.bytes(1, proto.bytes(1, from) .. proto.bytes(2, outputs[i]) .. proto.bytes(4, "Identity"))
    ends[#ends + 1] = proto.bytes(12, value_info(outputs[i], g.dtype, v.sample))
  end
  local nodes = table.concat(g.nodes) .. proto.bytes(2, rawget(model, "name") or "model")
  local tail = table.concat(ends)
  local size = #nodes + g.initial.size + #tail
  if size >= 1 << 31 then options.raise "onnx.save: more than 2 GB, which an ONNX file cannot hold" end
  local head = proto.int(1, IR) .. proto.bytes(2, "nnlua") .. proto.bytes(3, core.version)
    .. proto.bytes(8, proto.bytes(1, "") .. proto.int(2, OPSET))
  local parts = { head .. proto.head(7, size) .. nodes }
  table.move(g.initial, 1, #g.initial, 2, parts)
  parts[#parts + 1] = tail
  return core.file_replace(file, parts)
end

return export
