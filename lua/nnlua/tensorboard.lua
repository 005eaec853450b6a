--- Event files of TensorBoard: `nn.tensorboard.open(folder)` gives a writer. TensorFlow is not needed.
--
-- Owns: the format: records `u64 length | u32 masked CRC of it | data | u32 masked CRC of the data`, little-endian, where the data is an Event in
-- protocol buffers' encoding and the CRC is CRC-32C.
--
--     local nn = require "nnlua"
--     local folder = os.tmpname() .. "-run"
--     local writer = assert(nn.tensorboard.open(folder))
--     writer:scalar("loss", 0.5, 1)
--     writer:histogram("weights", nn.arange(0, 10), 1)
--     writer:image("sample", nn.rand(28, 28, 1), 1)
--     writer:text("note", "a **first** try", 1)
--     writer:graph(nn.Sequential{ nn.Input{4}, nn.Dense{2} })
--     assert(writer:close())
--     os.remove(writer.file); os.remove(folder)

local core = require "nnlua.core"
local class = require "nnlua.class"
local options = require "nnlua.options"

local tensorboard = {}

-- ---- bytes -----------------------------------------------------------------------------------------------------------

local crc_table = {}
for i = 0, 255 do
  local c = i
  for _ = 1, 8 do c = c & 1 == 1 and c >> 1 ~ 0x82f63b78 or c >> 1 end
  crc_table[i] = c
end

--- CRC-32C (Castagnoli) of a string.
---@param bytes string
---@return integer
function tensorboard.crc32c(bytes)
  local c = 0xffffffff
  for i = 1, #bytes do c = crc_table[(c ~ bytes:byte(i)) & 0xff] ~ c >> 8 end
  return c ~ 0xffffffff
end

local function masked(bytes)
  local c = tensorboard.crc32c(bytes)
  return ((c >> 15 | c << 17) + 0xa282ead8) & 0xffffffff
end

--- One record of an event file or a TFRecord file.
---@param data string
---@return string
function tensorboard.record(data)
  local length = ("<I8"):pack(#data)
  return length .. ("<I4"):pack(masked(length)) .. data .. ("<I4"):pack(masked(data))
end

local function varint(n)
  local out = {}
  repeat
    local low = n & 0x7f
    n = n >> 7 -- logical: negative numbers take ten bytes, as they should
    out[#out + 1] = string.char(n ~= 0 and low | 0x80 or low)
  until n == 0
  return table.concat(out)
end

-- Fields of a message, by number.
local function number_field(field, n) return varint(field << 3) .. varint(n) end
local function double_field(field, x) return varint(field << 3 | 1) .. ("<d"):pack(x) end
local function float_field(field, x) return varint(field << 3 | 5) .. ("<f"):pack(x) end
local function bytes_field(field, s) return varint(field << 3 | 2) .. varint(#s) .. s end

local function packed_doubles(field, list)
  local words = {}
  for i, x in ipairs(list) do words[i] = ("<d"):pack(x) end
  return bytes_field(field, table.concat(words))
end

-- ---- histograms ------------------------------------------------------------------------------------------------------

local BUCKETS = 30

-- What a HistogramProto holds of the finite values of a tensor; counted where the tensor is.
local function histogram_of(x)
  local _ <close> = core.no_grad()
  local _ <close> = core.scope()
  x = x:detach():float():reshape { -1 }
  if x:numel() == 0 then return { min = 0, max = 0, num = 0, sum = 0, squares = 0, limits = { 0 }, counts = { 0 } } end
  local head = core.stack({ x:amin(), x:amax(), x:sum(), x:square():sum() }):totable()
  local h = { min = head[1], max = head[2], num = x:numel(), sum = head[3], squares = head[4], limits = {}, counts = {} }
  if h.min ~= h.min or h.max - h.min == math.huge or h.max - h.min ~= h.max - h.min then return nil end
  if h.min == h.max then
    h.limits, h.counts = { h.max }, { h.num }
    return h
  end
  local below = {}
  for i = 1, BUCKETS - 1 do
    h.limits[i] = h.min + (h.max - h.min) * i / BUCKETS
    below[i] = x:lt(h.limits[i]):float():sum()
  end
  h.limits[BUCKETS] = h.max
  local last = 0
  for i, n in ipairs(core.stack(below):totable()) do
    h.counts[i], last = n - last, n
  end
  h.counts[BUCKETS] = h.num - last
  return h
end

-- ---- the writer ------------------------------------------------------------------------------------------------------

---@class nnlua.EventWriter
---@field file string
local Writer = class "EventWriter"

local started, clock = os.time(), core.sys.clock()

local function add(self, event, step)
  local now = started + core.sys.clock() - clock -- os.time() has whole seconds only
  local record = tensorboard.record(double_field(1, now) .. (step and number_field(2, step) or "") .. event)
  local ok, message = self.handle:write(record)
  if not ok then self.failed = self.failed or message end
end

local function summary(self, tag, value, step)
  if type(tag) ~= "string" or math.type(step) ~= "integer" then
    options.raise(("tensorboard: needs a name and a step (an integer), got %s and %s"):format(options.shown(tag), options.shown(step)))
  end
  add(self, bytes_field(5, bytes_field(1, bytes_field(1, tag) .. value)), step)
end

--- A number at a step.
function Writer:scalar(tag, value, step) summary(self, tag, float_field(2, value), step) end

--- The distribution of a tensor at a step. One with NaN or infinities is left out: returns false.
function Writer:histogram(tag, tensor, step)
  local h = histogram_of(tensor)
  if not h then return false end
  summary(self, tag, bytes_field(5, double_field(1, h.min) .. double_field(2, h.max) .. double_field(3, h.num) .. double_field(4, h.sum)
    .. double_field(5, h.squares) .. packed_doubles(6, h.limits) .. packed_doubles(7, h.counts)), step)
  return true
end

--- A picture (H, W) or (H, W, C), or several (N, H, W, C), which are called tag/1, tag/2, ...; bytes (u8) are 0 to 255, other dtypes 0 to 1.
function Writer:image(tag, tensor, step)
  if not core.is_tensor(tensor) then options.raise("tensorboard: image needs a tensor, got " .. options.shown(tensor)) end
  if tensor:dim() == 4 then
    for i = 1, tensor:size(1) do self:image(("%s/%d"):format(tag, i), tensor[i], step) end
    return
  end
  local shape = tensor:shape()
  local height, width, channels = shape[1], shape[2], shape[3] or 1
  local bytes = require("nnlua.vision").encode(tensor, "png")
  summary(self, tag, bytes_field(4, number_field(1, height) .. number_field(2, width) .. number_field(3, channels) .. bytes_field(4, bytes)), step)
end

local DT_STRING, DATA_CLASS_TENSOR = 7, 2

--- Text in Markdown: a string, or a list of them.
function Writer:text(tag, text, step)
  local list, values = type(text) == "table" and text or { text }, {}
  for i, s in ipairs(list) do
    if type(s) ~= "string" then options.raise("tensorboard: text needs a string or a list of strings, got " .. options.shown(s)) end
    values[i] = bytes_field(8, s)
  end
  local shape = type(text) == "table" and bytes_field(2, number_field(1, #list)) or ""
  local tensor = number_field(1, DT_STRING) .. bytes_field(2, shape) .. table.concat(values)
  local metadata = bytes_field(1, bytes_field(1, "text")) .. number_field(4, DATA_CLASS_TENSOR)
  summary(self, tag, bytes_field(9, metadata) .. bytes_field(8, tensor), step)
end

-- One attribute of a node: a map's entry.
local function attribute(key, value) return bytes_field(5, bytes_field(1, key) .. bytes_field(2, value)) end

-- A NodeDef: name, operator, the nodes it reads, the shape of its result with the batch unknown.
local function node_def(name, op, inputs, sample, parameters)
  local parts = { bytes_field(1, name), bytes_field(2, op) }
  for _, from in ipairs(inputs) do parts[#parts + 1] = bytes_field(3, from) end
  local dims = { bytes_field(2, number_field(1, -1)) }
  for _, n in ipairs(sample) do dims[#dims + 1] = bytes_field(2, number_field(1, n)) end
  parts[#parts + 1] = attribute("_output_shapes", bytes_field(1, bytes_field(7, table.concat(dims))))
  parts[#parts + 1] = attribute("parameters", number_field(3, parameters))
  return bytes_field(1, table.concat(parts))
end

--- The layers of a model and what they read (a GraphDef): nn.Model or a built nn.Sequential.
---@param model nnlua.Module
function Writer:graph(model)
  if not (type(model) == "table" and model.call_list) then
    options.raise("tensorboard: graph needs an nn.Model or a built nn.Sequential, got " .. options.shown(model))
  end
  local nodes = {}
  local function name_of(layer, call) return layer.name .. (call > 1 and "_call" .. call or "") end
  for i, call in ipairs(model:call_list()) do
    local inputs = {}
    for k, at in ipairs(call.from) do inputs[k] = name_of(at.layer, at.call) end
    local trained, other = call.layer:count_params()
    nodes[i] = node_def(name_of(call.layer, call.call), getmetatable(call.layer).__name, inputs, call.node.results[1].sample, trained + other)
  end
  add(self, bytes_field(4, table.concat(nodes) .. bytes_field(4, number_field(1, 22)))) -- 22: the version of the format
end

--- All that was added is in the file: true, or nil and a message.
function Writer:flush()
  local ok, message = self.handle:flush()
  if self.failed or not ok then return nil, ("%s: %s"):format(self.file, self.failed or message) end
  return true
end

--- Flush and close: true, or nil and a message.
function Writer:close()
  local ok, message = self:flush()
  self.handle:close()
  return ok, message
end

local serial = 0

--- A writer of a new event file in `folder`, which is made; or nil and a message.
---@param folder string
---@return nnlua.EventWriter?, string?
function tensorboard.open(folder)
  if type(folder) ~= "string" then options.raise("tensorboard: needs a folder, got " .. options.shown(folder)) end
  local made, why = core.sys.mkdir_p(folder)
  if not made then return nil, why end
  serial = serial + 1
  local file = ("%s/events.out.tfevents.%010d.nnlua.%d"):format(folder, os.time(), serial)
  local handle, message = io.open(file, "wb")
  if not handle then return nil, message end
  local writer = setmetatable({ file = file, handle = handle }, Writer)
  add(writer, bytes_field(3, "brain.Event:2"))
  return writer
end

return tensorboard
