-- lua/nnlua/tensorboard.lua and the TensorBoard callback: the bytes of event files, read back by a decoder of its own.
local nn = require "nnlua"
local program = dofile "tests/program.lua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local close, message = support.close, support.message
local tb = nn.tensorboard

local folder
before_each(function() folder = program.folder() end)
after_each(function() program.remove(folder) end)

-- A message as field -> value: numbers, or strings for nested messages and texts. Of a field that comes again the last one; all of them are in the
-- second result, a list of { field, value }.
local function fields(data)
  local list, at, every = {}, 1, {}
  local function varint()
    local n, shift = 0, 0
    while true do
      local b = data:byte(at)
      at = at + 1
      n = n | (b & 0x7f) << shift
      if b < 0x80 then return n end
      shift = shift + 7
    end
  end
  while at <= #data do
    local key = varint()
    local field, kind = key >> 3, key & 7
    local value
    if kind == 0 then value = varint()
    elseif kind == 1 then value, at = ("<d"):unpack(data, at)
    elseif kind == 5 then value, at = ("<f"):unpack(data, at)
    else
      local n = varint()
      value, at = data:sub(at, at + n - 1), at + n
    end
    list[field] = value
    every[#every + 1] = { field, value }
  end
  return list, every
end

local function each(data, field)
  local out, _, every = {}, fields(data)
  for _, entry in ipairs(every) do
    if entry[1] == field then out[#out + 1] = entry[2] end
  end
  return out
end

-- Every event after the first: { step, tag, value = scalar or nil, histogram = fields or nil }; checks frames and sums.
local function events(file)
  local bytes, at, list = program.read(file), 1, {}
  local function mask(s)
    local c = tb.crc32c(s)
    return ((c >> 15 | c << 17) + 0xa282ead8) & 0xffffffff
  end
  while at <= #bytes do
    local n, sum = ("<I8I4"):unpack(bytes, at)
    assert.equal(mask(bytes:sub(at, at + 7)), sum)
    local data = bytes:sub(at + 12, at + 11 + n)
    assert.equal(mask(data), (("<I4"):unpack(bytes, at + 12 + n)))
    at = at + 16 + n
    local event = fields(data)
    assert.is_true(math.abs(event[1] - os.time()) < 100)
    if #list == 0 and not list.version then
      list.version = event[3]
    elseif event[4] then
      list.graph = event[4]
    else
      local value = fields(fields(event[5])[1])
      list[#list + 1] = { step = event[2], tag = value[1], value = value[2], histogram = value[5] and fields(value[5]),
        image = value[4] and fields(value[4]), tensor = value[8], metadata = value[9] }
    end
  end
  return list
end

local function doubles(s)
  local list = {}
  for i = 1, #s, 8 do list[#list + 1] = (("<d"):unpack(s, i)) end
  return list
end

describe("an event file", function()
  it("has the check sums and the first record that TensorBoard knows", function()
    assert.equal(0xe3069283, tb.crc32c "123456789")
    assert.equal(0, tb.crc32c "")
    local hex = "1800000000000000a37f4b2209000000000000f03f1a0d627261696e2e4576656e743a3286bf577a"
    local record = tb.record("\9" .. ("<d"):pack(1) .. "\26\13brain.Event:2")
    assert.equal(hex, (record:gsub(".", function(c) return ("%02x"):format(c:byte()) end)))
  end)

  it("holds scalars", function()
    local writer = assert(tb.open(folder .. "/a/b"))
    writer:scalar("loss", 0.5, 1)
    writer:scalar("loss", -2, 300)
    assert(writer:close())
    local list = events(writer.file)
    assert.equal("brain.Event:2", list.version)
    assert.same({ { step = 1, tag = "loss", value = 0.5 }, { step = 300, tag = "loss", value = -2 } }, { list[1], list[2] })
    assert.truthy(message(writer.scalar, writer, "x", 1, 0.5):find("a step (an integer)", 1, true))
  end)

  it("holds histograms", function()
    local writer = assert(tb.open(folder))
    assert.is_true(writer:histogram("w", nn.arange(0, 60):reshape { 6, 10 }, 7))
    assert.is_true(writer:histogram("same", nn.full({ 5 }, 2), 7))
    assert.is_false(writer:histogram("bad", nn.tensor { 1, 0 / 0 }, 7))
    assert(writer:close())
    local list = events(writer.file)
    assert.equal(2, #list)
    local h = list[1].histogram
    assert.same({ 0, 59, 60 }, { h[1], h[2], h[3] })
    close({ 1770, 70210 }, { h[4], h[5] }, 1e-3)
    local limits, counts, total = doubles(h[6]), doubles(h[7]), 0
    assert.same({ 30, 30, 59 }, { #limits, #counts, limits[30] })
    for i, n in ipairs(counts) do
      total = total + n
      assert.equal(2, n, i)
    end
    assert.equal(60, total)
    assert.same({ { 2 }, { 5 } }, { doubles(list[2].histogram[6]), doubles(list[2].histogram[7]) })
  end)

  -- The pixels of a PNG file: checks names, sizes and sums of its chunks, with checksums of its own.
  local function pixels(bytes)
    local function crc(s)
      local c = 0xffffffff
      for i = 1, #s do
        c = c ~ s:byte(i)
        for _ = 1, 8 do c = (c & 1) * 0xedb88320 ~ c >> 1 end
      end
      return c ~ 0xffffffff
    end
    assert.equal("\x89PNG\r\n\x1a\n", bytes:sub(1, 8))
    local at, chunks = 9, {}
    while at <= #bytes do
      local n, name = (">I4c4"):unpack(bytes, at)
      chunks[name] = bytes:sub(at + 8, at + 7 + n)
      assert.equal(crc(name .. chunks[name]), ((">I4"):unpack(bytes, at + 8 + n)))
      at = at + 12 + n
    end
    local width, height, depth, colours = (">I4I4BB"):unpack(chunks.IHDR)
    local channels, rows = ({ [0] = 1, [2] = 3, [4] = 2, [6] = 4 })[colours], {}
    local data = chunks.IDAT
    assert.equal(0, (data:byte(1) * 256 + data:byte(2)) % 31)
    local raw = assert(nn.inflate(data:sub(3, -5), (1 + width * channels) * height))
    local a, b = 1, 0
    for i = 1, #raw do a = (a + raw:byte(i)) % 65521 b = (b + a) % 65521 end
    assert.equal(b * 65536 + a, ((">I4"):unpack(data, #data - 3)))
    assert.equal(8, depth)
    for r = 1, height do
      local start = (r - 1) * (1 + width * channels) + 1
      local filter, row, above = raw:byte(start), {}, rows[r - 1] or {}
      for i = 1, width * channels do -- what the filter took off: left, up, their mean, or the nearest of left, up, upper left
        local left, up, corner = row[i - channels] or 0, above[i] or 0, above[i - channels] or 0
        local guess = left + up - corner
        local dl, du, dc = math.abs(guess - left), math.abs(guess - up), math.abs(guess - corner)
        local paeth = dl <= du and dl <= dc and left or du <= dc and up or corner
        row[i] = (raw:byte(start + i) + ({ [0] = 0, left, up, (left + up) // 2, paeth })[filter]) & 255
      end
      rows[r] = row
    end
    return rows, channels
  end

  it("holds images as PNG", function()
    local writer = assert(tb.open(folder))
    writer:image("gray", nn.tensor { { 0, 0.5, 1 }, { -1, 2, 0.1 } }, 3)
    writer:image("colours", nn.arange(0, 24):reshape { 2, 2, 2, 3 }:to "u8", 4)
    writer:image("large", nn.zeros(270, 250):to "u8", 5)
    assert.truthy(message(writer.image, writer, "x", nn.zeros(2, 2, 5), 1):find("1 to 4 channels, got 2x2x5", 1, true))
    assert(writer:close())
    local list = events(writer.file)
    assert.same({ "gray", "colours/1", "colours/2", "large" }, { list[1].tag, list[2].tag, list[3].tag, list[4].tag })
    assert.same({ 2, 3, 1, 3 }, { list[1].image[1], list[1].image[2], list[1].image[3], list[1].step })
    assert.same({ { 0, 128, 255 }, { 0, 255, 26 } }, (pixels(list[1].image[4])))
    local rows, channels = pixels(list[3].image[4])
    assert.same({ 3, { { 12, 13, 14, 15, 16, 17 }, { 18, 19, 20, 21, 22, 23 } } }, { channels, rows })
    assert.equal(250, #pixels(list[4].image[4])[270])
  end)

  it("holds text", function()
    local writer = assert(tb.open(folder))
    writer:text("note", "a **b**", 2)
    writer:text("list", { "one", "two" }, 2)
    assert.truthy(message(writer.text, writer, "x", 5, 1):find("a string or a list of strings", 1, true))
    assert(writer:close())
    local list = events(writer.file)
    assert.same({ "note", 2 }, { list[1].tag, list[1].step })
    assert.equal("text", fields(fields(list[1].metadata)[1])[1]) -- the plugin's name
    assert.equal(7, fields(list[1].tensor)[1]) -- DT_STRING
    assert.same({ "a **b**" }, each(list[1].tensor, 8))
    assert.equal("", fields(list[1].tensor)[2]) -- a scalar
    assert.same({ "one", "two" }, each(list[2].tensor, 8))
    assert.equal(2, fields(fields(fields(list[2].tensor)[2])[2])[1])
  end)

  it("holds the graph of a model", function()
    local a = nn.Input { 6, name = "a" }
    local shared = nn.Dense { 6, name = "shared" }
    local model = nn.Model { inputs = a, outputs = nn.Add { name = "sum" } { shared(shared(a)), a } }
    local writer = assert(tb.open(folder))
    writer:graph(model)
    assert.truthy(message(writer.graph, writer, nn.Dense { 2 }):find("needs an nn.Model or a built nn.Sequential", 1, true))
    assert(writer:close())
    local found = {}
    for i, node in ipairs(each(events(writer.file).graph, 1)) do
      local f, attributes = fields(node), {}
      for _, entry in ipairs(each(node, 5)) do attributes[fields(entry)[1]] = fields(entry)[2] end
      local sizes = each(fields(fields(attributes._output_shapes)[1])[7], 2)
      found[i] = { f[1], f[2], table.concat(each(node, 3), " "), fields(sizes[1])[1], fields(sizes[2])[1], fields(attributes.parameters)[3] }
    end
    assert.same({ { "a", "Input", "", -1, 6, 0 }, { "shared", "Dense", "a", -1, 6, 42 }, { "shared_call2", "Dense", "shared", -1, 6, 42 },
      { "sum", "Add", "shared_call2 a", -1, 6, 0 } }, found)
  end)

  it("tells when it cannot be made", function()
    program.write(folder .. "/file", "")
    local writer, why = tb.open(folder .. "/file/run")
    assert.is_nil(writer)
    assert.is_string(why)
  end)
end)

describe("the callback", function()
  it("writes kernels as pictures, and nothing of a model that has no layers to show", function()
    nn.seed(1)
    local model = nn.Sequential { nn.Input { 4, 4, 3 }, nn.Conv2D { 20, 2 }, nn.Flatten {}, nn.Dense { 1 } }
    model:compile { optimizer = "sgd", loss = "mse" }
    local board = nn.callbacks.TensorBoard { folder, images = 1, graph = false }
    model:fit { nn.rand(4, 4, 4, 3), nn.rand(4, 1), verbose = 0, callbacks = { board } }
    local seen, list = {}, events(board.train.file)
    for _, e in ipairs(list) do seen[e.tag] = e.image and { e.image[1], e.image[2], e.image[3] } or true end
    assert.same({ 2, 2, 3 }, seen["conv2d.kernel/16"])
    assert.is_nil(seen["conv2d.kernel/17"])
    assert.same({ 180, 1, 1 }, seen["dense.kernel"])
    assert.is_nil(list.graph)
    local Own = nn.class("OwnNet", nn.Module)
    function Own:init() self.fc = nn.Dense { 1 } end
    function Own:forward(x) return self.fc(x) end
    local own = Own():compile { optimizer = "sgd", loss = "mse" }
    board = nn.callbacks.TensorBoard { folder .. "/own" }
    own:fit { nn.rand(4, 2), nn.rand(4, 1), verbose = 0, callbacks = { board } }
    assert.is_nil(events(board.train.file).graph)
  end)

  it("writes figures, rates, histograms and health", function()
    nn.seed(1)
    local model = nn.Sequential { nn.Input { 2 }, nn.Dense { 4, activation = "relu" }, nn.Dense { 1 } }
    model:compile { optimizer = nn.optim.SGD { lr = 0.1 }, loss = "mse" }
    local health = nn.callbacks.Health { every = 1, write = function() end }
    local board = nn.callbacks.TensorBoard { folder, histograms = 2, every = 2, health = health }
    local x, y = nn.uniform { 8, 2 }, nn.uniform { 8, 1 }
    model:fit { x, y, epochs = 2, batch_size = 2, verbose = 0, validation = { x, y }, callbacks = { health, board } }
    local seen = {}
    for _, e in ipairs(events(board.train.file)) do seen[e.tag] = (seen[e.tag] or 0) + 1 end
    assert.same({ 4, 2, 2, 1, 1 }, { seen.batch_loss, seen.epoch_loss, seen.learning_rate, seen["dense.kernel"], seen["dense_1.bias"] })
    assert.same({ 2, 2 }, { seen["health/dense/dead"], seen["health/dense_1/ratio"] })
    local list = events(board.validation.file)
    assert.equal(2, #list)
    assert.equal("epoch_loss", list[1].tag)
    assert.is_nil(list.graph)
    assert.equal(3, #each(events(board.train.file).graph, 1))
    assert.equal(1, seen.model)
    close({ model.history.val_loss[2] }, { list[2].value }, 1e-6)
  end)
end)
