--- ONNX files: `nn.onnx`. `nn.onnx.load(file)` gives a model that runs and can be trained further; `nn.onnx.save(file, model)` writes one.
--
-- Owns: what a graph is made into, and what is refused: other domains than ONNX's, operators that are not ours (named at once), functions and graphs
-- within graphs (If, Loop, Scan), data outside the file, sparse or text tensors, values that are used before they are made, opsets below 7 or above
-- 20. The model takes and gives what the graph says: images channels first (N, C, H, W), ids from 0. With `channels_last = true` its images, inputs
-- and outputs of four dims, are (N, H, W, C) as everywhere here. Running a model takes the memory that its sizes ask for.
--
--     local nn = require "nnlua"
--     local model = nn.Sequential{ nn.Input{4}, nn.Dense{3, activation = "softmax"} }
--     local file = os.tmpname()
--     assert(nn.onnx.save(file, model))
--     local same = assert(nn.onnx.load(file))
--     local x = nn.ones(2, 4)
--     print(same.inputs[1].name, (same(x) - model(x)):abs():max():item() < 1e-6)   --> input  true
--     os.remove(file)

local core = require "nnlua.core"
local class = require "nnlua.class"
local options = require "nnlua.options"
local foreign = require "nnlua.foreign"
local Module = require "nnlua.module"
local proto = require "nnlua.onnx.proto"
local operators = require "nnlua.onnx.operators"

local onnx = {}
local MOST_BYTES, OLDEST, NEWEST = 1 << 31, 7, 20

-- ---- tensors -------------------------------------------------------------------------------------------------------------------

-- data_type -> { encoding of raw_data, the field of data that is not raw }
local types = { [1] = { "<f4", "float_data" }, [2] = { "<u1", "int32_data" }, [3] = { "<i1", "int32_data" }, [4] = { "<u2", "int32_data" },
  [5] = { "<i2", "int32_data" }, [6] = { "<i4", "int32_data" }, [7] = { "<i8", "int64_data" }, [9] = { "<b1", "int32_data" },
  [10] = { "<f2", "int32_data" }, [11] = { "<f8", "double_data" }, [12] = { "<u4", "uint64_data" }, [13] = { "<u8", "uint64_data" },
  [16] = { "<B2", "int32_data" } }

-- Varints of ranges of s as the bytes that raw_data would be.
local function unvaried(s, ranges, width, most)
  local parts, few, count, mask = {}, {}, 0, width == 8 and -1 or (1 << 8 * width) - 1
  for _, range in ipairs(ranges) do
    local at = range[1]
    while at <= range[2] do
      local v
      v, at = proto.varint(s, at, range[2])
      count = count + 1
      if count > most then foreign.refuse "more elements than its sizes say" end
      few[#few + 1] = string.pack("<I" .. width, v & mask)
      if #few == 4096 then parts[#parts + 1], few = table.concat(few), {} end -- small strings take many times their bytes
    end
  end
  return table.concat(parts) .. table.concat(few)
end

local function tensor_of(s, t, name)
  local kind = types[t.data_type]
  if not kind then foreign.refuse("the tensor %s has elements of type %s, which are not read", options.shown(name), t.data_type or "none") end
  if (t.data_location or 0) ~= 0 or t.external_data then foreign.refuse("the tensor %s has its data outside the file", options.shown(name)) end
  if t.segment then foreign.refuse("the tensor %s comes in segments", options.shown(name)) end
  local shape, width = t.dims or {}, tonumber(kind[1]:sub(3))
  local n = foreign.elements(shape, "the tensor " .. options.shown(name))
  local bytes
  if t.raw_data then
    bytes = s:sub(t.raw_data[1], t.raw_data[2])
  elseif kind[2] == "float_data" or kind[2] == "double_data" then
    local parts = {}
    for i, range in ipairs(t[kind[2]] or {}) do parts[i] = s:sub(range[1], range[2]) end
    bytes = table.concat(parts)
  else
    bytes = unvaried(s, t[kind[2]] or {}, width, n)
  end
  if #bytes ~= n * width then foreign.refuse("the tensor %s has %d bytes, its sizes need %d", options.shown(name), #bytes, n * width) end
  return foreign.tensor(bytes, kind[1], shape)
end

-- ---- reading a graph -------------------------------------------------------------------------------------------------------------

local function attributes_of(s, node, what)
  local a, fields = {}, { [1] = "f", [2] = "i", [3] = "s", [6] = "floats", [7] = "ints", [8] = "strings" }
  for _, item in ipairs(node.attribute or {}) do
    local name = item.name
    if not name or a[name] ~= nil then foreign.refuse("%s: an attribute without a name, or twice", what) end
    if item.g or item.graphs or item.ref_attr_name then foreign.refuse("%s: graphs within graphs are not read", what) end
    local kind = item.type
    if kind == 4 or not kind and item.t then
      if not item.t then foreign.refuse("%s: the attribute %s has no tensor", what, options.shown(name)) end
      a[name] = { tensor = tensor_of(s, item.t, name) }
    else
      local field = fields[kind]
      if not field then foreign.refuse("%s: the attribute %s is of type %s, which is not read", what, options.shown(name), kind or "none") end
      a[name] = item[field] -- proto3 leaves out what is 0 or empty
      if a[name] == nil then a[name] = kind == 3 and "" or kind <= 2 and 0 or {} end
    end
  end
  return a
end

local function version_of(model)
  local version
  for _, set in ipairs(model.opset_import or {}) do
    if (set.domain or "") == "" or set.domain == "ai.onnx" then version = set.version end
  end
  if not version or version < OLDEST or version > NEWEST then
    foreign.refuse("operators of version %s; %d to %d are read", version or "none", OLDEST, NEWEST)
  end
  return version
end

local function described(info)
  local t = info.type and info.type.tensor
  if not info.name or not t then foreign.refuse("the input or output %s is no tensor", options.shown(info.name)) end
  local shape = {}
  for i, d in ipairs(t.shape and t.shape.dims or {}) do shape[i] = d.value or d.param or "?" end
  return { name = info.name, shape = shape }
end

-- A plain description of the file: inputs, outputs, initial (tensors by name, in order), nodes.
local function read(file)
  local s = foreign.slurp(file, MOST_BYTES)
  local model = proto.decode(s, 1, #s, proto.model)
  local g = model.graph
  if not g or not model.ir_version then foreign.refuse "not an ONNX model" end
  if model.functions or g.sparse_initializer then foreign.refuse "functions and sparse tensors are not read" end
  local version, known = version_of(model), { [""] = true }
  local function define(name, what)
    if not name or name == "" or known[name] then foreign.refuse("%s has no name of its own: %s", what, options.shown(name)) end
    known[name] = true
  end
  local out = { initial = {}, inputs = {}, outputs = {}, nodes = {}, opset = version }
  for i, t in ipairs(g.initializer or {}) do
    define(t.name, "a tensor")
    out.initial[i] = { t.name, tensor_of(s, t, t.name) }
  end
  for _, info in ipairs(g.input or {}) do -- old files list the initial tensors too
    if not (info.name and known[info.name] and info.name ~= "") then
      local input = described(info)
      define(input.name, "an input")
      out.inputs[#out.inputs + 1] = input
    end
  end
  for i, node in ipairs(g.node or {}) do
    local what = ("node %d (%s)"):format(i, options.shown(node.op_type))
    local domain = node.domain or ""
    if domain ~= "" and domain ~= "ai.onnx" or not operators[node.op_type or ""] then
      foreign.refuse("%s: there is no such operator here%s", what, domain ~= "" and " (domain " .. options.shown(domain) .. ")" or "")
    end
    for _, name in ipairs(node.input or {}) do
      if not known[name] then foreign.refuse("%s takes %s, which nothing before it makes", what, options.shown(name)) end
    end
    for _, name in ipairs(node.output or {}) do
      if name ~= "" then define(name, what) end
    end
    out.nodes[i] = { op = node.op_type, what = what, inputs = node.input or {}, outputs = node.output or {}, version = version,
      attributes = attributes_of(s, node, what) }
  end
  for i, info in ipairs(g.output or {}) do
    out.outputs[i] = described(info)
    if not known[info.name] then foreign.refuse("nothing makes the output %s", options.shown(info.name)) end
  end
  if #out.outputs == 0 then foreign.refuse "a graph without outputs" end
  return out
end

-- ---- the model -------------------------------------------------------------------------------------------------------------------

--- A graph from an ONNX file as a module: `inputs` and `outputs` are lists of { name =, shape = } as the file has them, `opset` is the version of
--- its operators. Its float tensors are
--- parameters (running averages buffers), so it can be trained further, and saved as weights.
---@class nnlua.OnnxModel: nnlua.Module
local OnnxModel = class("OnnxModel", Module)

-- A name for an attribute that hides nothing.
local function attribute_name(self, name)
  local key = "w_" .. name:gsub("[^%w]", "_"):sub(1, 100)
  while rawget(self, key) ~= nil do key = key .. "_" end
  return key
end

function OnnxModel:init(graph, channels_last)
  local running = {}
  for _, node in ipairs(graph.nodes) do
    if node.op == "BatchNormalization" then running[node.inputs[4] or ""], running[node.inputs[5] or ""] = true, true end
  end
  for _, key in ipairs { "inputs", "outputs", "nodes", "opset" } do rawset(self, key, graph[key]) end
  rawset(self, "constants", {})
  rawset(self, "keys", {}) -- name in the graph -> attribute
  rawset(self, "channels_last", channels_last)
  for _, item in ipairs(graph.initial) do
    local name, t = item[1], item[2]
    if t:dtype():find "^b?f%d" and t:dim() > 0 then
      local key = attribute_name(self, name)
      self.keys[name], self[key] = key, running[name] and Module.buffer(t) or Module.parameter(t)
    else
      self.constants[name] = t
    end
  end
  rawset(self, "built", true)
end

local function given(self, ...)
  local first, n = ..., #self.inputs
  local list = { ... }
  if type(first) == "table" and not core.is_tensor(first) then
    list = first[1] and first or {}
    for i, input in ipairs(self.inputs) do list[i] = list[i] or first[input.name] end
  end
  for i = 1, n do
    if not core.is_tensor(list[i]) then
      options.raise(("the input %d (%s) must be a tensor, got %s"):format(i, self.inputs[i].name, options.shown(list[i])))
    end
  end
  if #list ~= n then options.raise(("takes %d inputs, got %d"):format(n, #list)) end
  return list
end

local function run(node, env)
  local x = { n = #node.inputs }
  for i, name in ipairs(node.inputs) do x[i] = env[name] end
  local results = table.pack(pcall(operators[node.op], x, node.attributes, node, env))
  if not results[1] then options.raise(("%s: %s"):format(node.what, (tostring(results[2]):gsub("^[^\n]-:%d+: ", "")))) end
  for k, name in ipairs(node.outputs) do
    local value = results[k + 1]
    if type(value) == "table" then value = core.tensor(value.values, { dtype = value.dtype }):reshape(value.shape) end
    if name ~= "" then env[name] = value end
  end
end

function OnnxModel:forward(...)
  local env, list = {}, given(self, ...)
  for name, t in pairs(self.constants) do env[name] = t end
  for name, key in pairs(self.keys) do env[name] = self[key] end
  for i, input in ipairs(self.inputs) do
    env[input.name] = self.channels_last and list[i]:dim() == 4 and list[i]:permute(1, 4, 2, 3) or list[i]
  end
  for _, node in ipairs(self.nodes) do run(node, env) end
  local out = {}
  for i, output in ipairs(self.outputs) do
    local y = env[output.name] or options.raise(("nothing makes the output %s"):format(output.name))
    out[i] = self.channels_last and y:dim() == 4 and y:permute(1, 3, 4, 2) or y
  end
  return table.unpack(out)
end

function OnnxModel:detail() return ("%d nodes, %d tensors"):format(#self.nodes, #self:weights()) end

local load_spec = { channels_last = { "boolean", default = false } }

--- The model of an ONNX file, or nil and a message. `channels_last = true`: images go in and come out as (N, H, W, C).
---@param file string
---@param given_options? { channels_last: boolean? }
---@return nnlua.OnnxModel?, string?
function onnx.load(file, given_options)
  local o = options.check("onnx.load", given_options or {}, load_spec)
  local graph, message = foreign.guard(tostring(file), read, file)
  if not graph then return nil, message end
  return OnnxModel(graph, o.channels_last)
end

--- Write a Sequential or Functional model as an ONNX file (opset 17): true, or nil and a message. Inputs and outputs are as here, images (N, H, W,
--- C); the batch is of any size. What has no ONNX operator raises an error that names the layer.
---@param file string
---@param model nnlua.Module
function onnx.save(file, model) return require("nnlua.onnx.export").save(file, model) end

return onnx
