-- lua/nnlua/tensorboard.lua and the TensorBoard callback: the bytes of event files, read back by a decoder of its own.
local nn = require "nnlua"
local program = dofile "tests/program.lua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local close, message = support.close, support.message
local tb = nn.tensorboard

local folder
before_each(function() folder = program.folder() end)
after_each(function() program.remove(folder) end)

-- A message as a list of { field, value }: numbers, or strings for nested messages and texts.
local function fields(data)
  local list, at = {}, 1
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
  end
  return list
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
    else
      local value = fields(fields(event[5])[1])
      list[#list + 1] = { step = event[2], tag = value[1], value = value[2], histogram = value[5] and fields(value[5]) }
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

  it("tells when it cannot be made", function()
    program.write(folder .. "/file", "")
    local writer, why = tb.open(folder .. "/file/run")
    assert.is_nil(writer)
    assert.is_string(why)
  end)
end)

describe("the callback", function()
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
    close({ model.history.val_loss[2] }, { list[2].value }, 1e-6)
  end)
end)
