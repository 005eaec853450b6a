-- lua/nnlua/keras_files.lua, keras_read.lua, keras.lua (Keras 3), zip.lua. The files of golden/keras were made by Keras 3.16; expected.h5 holds
-- inputs and its predictions.
local nn = require "nnlua"
local core = require "nnlua.core"
local h5 = require "nnlua.h5"
local zip = require "nnlua.zip"
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local files = dofile(here .. "files.lua")
local golden = here .. "golden/keras/"
local temporary, spill = files.temporary, files.write

local function farthest(a, b) return (a - b):abs():max():item() end

local expected = assert(h5.load(golden .. "expected.h5"))
local function sample(name)
  local x = expected["/" .. name .. "/x0"]
  return name == "rnn" and x + 1 or x, expected["/" .. name .. "/y"] -- ids count from 1 here
end

-- "kind path" of every key of decoded JSON, with list places left out, so that two files can be compared.
local function keys_of(value, path, found)
  if type(value) == "table" and value ~= core.json_null then
    for key, item in pairs(value) do
      local at = path .. "/" .. (type(key) == "number" and "*" or key)
      found[at] = true
      keys_of(item, at, found)
    end
  end
  return found
end

describe("Keras's files", function()
  teardown(files.clean)

  for _, name in ipairs { "mlp", "cnn", "rnn", "func", "norms" } do
    describe(name, function()
      it("predicts what Keras does, from .h5, .keras and .weights.h5", function()
        local x, y = sample(name)
        for _, ending in ipairs { ".h5", ".keras" } do
          local model = assert(nn.load(golden .. name .. ending))
          assert.truthy(farthest(model:predict(x), y) < 1e-5)
          for _, w in ipairs(model:weights()) do w.tensor:assign(nn.zeros_like(w.tensor)) end
          assert.truthy(farthest(model:predict(x), y) > 1e-3)
          assert(model:load_weights(golden .. name .. ".weights.h5"))
          assert.truthy(farthest(model:predict(x), y) < 1e-5)
          for _, w in ipairs(model:weights()) do w.tensor:assign(nn.zeros_like(w.tensor)) end
          assert(model:load_weights(golden .. name .. ".h5"))
          assert.truthy(farthest(model:predict(x), y) < 1e-5)
        end
      end)

      it("is written in the same layout, and the same again", function()
        local first, second = temporary ".keras", temporary ".keras"
        local model = assert(nn.load(golden .. name .. ".keras"))
        assert(model:save(first))
        assert(assert(nn.load(first)):save(second))
        local theirs, ours, again = assert(zip.open(golden .. name .. ".keras")), assert(zip.open(first)), assert(zip.open(second))
        assert.same(theirs.names, ours.names)
        assert.equal(ours.read "config.json", again.read "config.json")
        assert.equal(ours.read "model.weights.h5", again.read "model.weights.h5")
        local a = assert(core.h5_foreign("theirs", theirs.read "model.weights.h5"))
        local b = assert(core.h5_foreign("ours", ours.read "model.weights.h5"))
        for path, tensor in pairs(a.datasets) do
          assert.truthy(b.datasets[path], path)
          assert.equal(0, farthest(tensor, b.datasets[path]), path)
        end
        for path in pairs(b.datasets) do assert.truthy(a.datasets[path], path) end
        -- what we say is a part of what Keras says, in the same places
        local their_keys = keys_of(assert(core.json_decode(theirs.read "config.json")), "", {})
        for key in pairs(keys_of(assert(core.json_decode(ours.read "config.json")), "", {})) do
          local allowed = their_keys[key] or key:find "^/compile_config" or key:find "/inbound_nodes" or key:find "/shape/" or key:find "/dtype"
          assert.truthy(allowed, key)
        end
        for _, list in ipairs { theirs, ours, again } do list.close() end
      end)

      it("has weights that are written in the same places", function()
        local file = temporary ".weights.h5"
        local model = assert(nn.load(golden .. name .. ".keras"))
        assert(model:save_weights(file))
        local a, b = assert(h5.load(golden .. name .. ".weights.h5")), assert(h5.load(file))
        for path, tensor in pairs(a) do assert.equal(0, farthest(tensor, b[path]), path) end
        for path in pairs(b) do assert.truthy(a[path], path) end
        assert(model:load_weights(file))
      end)
    end)
  end

  it("keep the optimizer: a step more is the same from .keras and from .h5", function()
    nn.seed(3)
    local model = nn.Sequential { nn.Input { 4 }, nn.Dense { 8, activation = "relu" }, nn.BatchNorm {}, nn.Dense { 3 } }
    model:compile { optimizer = nn.optim.Adam { lr = 0.01 }, loss = "sparse_categorical_crossentropy", from_logits = true, metrics = { "accuracy" } }
    local x, y = nn.randn(16, 4), nn.randint(1, 3, { 16 })
    for _ = 1, 3 do model:train_on_batch(x, y) end
    local file = temporary ".keras"
    assert(model:save(file))
    local back = assert(nn.load(file))
    assert.equal(3, back.compiled.optimizer.iterations)
    model:train_on_batch(x, y)
    back:train_on_batch(x, y)
    assert.equal(0, farthest(model:predict(x), back:predict(x)))
  end)

  it("keep several inputs and outputs, shared and nested parts, and how each optimizer trains them; and are the same when saved again", function()
    nn.seed(2)
    local a, b, inside = nn.Input { 6, name = "a" }, nn.Input { 6, name = "b" }, nn.Input { 5 }
    local shared, chain = nn.Dense { 5, activation = "tanh" }, nn.Sequential { nn.Input { 5 }, nn.Dense { 4 }, nn.BatchNorm {}, name = "chain" }
    local nested = nn.Model { inputs = inside, outputs = nn.Dense { 4 }(inside), name = "nested" }
    local ha, hb = shared(a), shared(b)
    local h = nn.Concatenate {} { chain(ha), nested(hb), nested(ha) }
    local model = nn.Model { inputs = { a, b }, outputs = { nn.Dense { 1, name = "price" }(h), nn.Dense { 3, name = "kind" }(h) } }
    local x, y = { nn.randn(12, 6), nn.randn(12, 6) }, { nn.ones(12, 1), nn.randint(1, 3, { 12 }) }
    local function far(m, n)
      local p, q = m:predict(x), n:predict(x)
      return math.max(farthest(p[1], q[1]), farthest(p[2], q[2]))
    end
    for _, name in ipairs { "Adam", "SGD", "RMSprop", "Adagrad", "Adadelta", "Adamax", "Nadam", "AdamW", "Ftrl", "Lion" } do
      model:compile { optimizer = nn.optim[name] { lr = 0.01 }, loss = { price = "mse", kind = "sparse_categorical_crossentropy" },
        from_logits = { kind = true }, loss_weights = { price = 0.5 }, metrics = { kind = "accuracy" } }
      for _ = 1, 2 do model:train_on_batch(x, y) end
      local first, second = temporary ".keras", temporary ".keras"
      assert(model:save(first))
      local back = assert(nn.load(first))
      assert(back:save(second))
      local p, q = assert(zip.open(first)), assert(zip.open(second))
      for _, member in ipairs { "config.json", "model.weights.h5" } do assert.is_true(p.read(member) == q.read(member), name .. ": " .. member) end
      p.close()
      q.close()
      local before = model:predict(x)
      assert.equal(0, far(model, back), name)
      assert.equal(0.5, back.compiled.outputs[1].weight)
      assert.equal("accuracy", back.compiled.outputs[2].meters[1].name)
      model:train_on_batch(x, y)
      back:train_on_batch(x, y)
      assert.equal(0, far(model, back), name .. ": a step more")
      assert.is_true(farthest(before[1], model:predict(x)[1]) > 0, name)
    end
  end)

  it("read Keras 2: inbound nodes as lists, kernel:0 names, strings for initialisers", function()
    local config = [=[{"class_name": "Functional", "config": {"name": "model", "layers": [
      {"class_name": "InputLayer", "name": "in", "config": {"batch_input_shape": [null, 4], "dtype": "float32", "sparse": false,
        "ragged": false, "name": "in"}, "inbound_nodes": []},
      {"class_name": "Dense", "name": "a", "config": {"name": "a", "trainable": true, "dtype": "float32", "units": 4, "activation": "tanh",
        "use_bias": true, "kernel_initializer": "glorot_uniform", "bias_initializer": {"class_name": "Zeros", "config": {}},
        "kernel_regularizer": null},
        "inbound_nodes": [[["in", 0, 0, {}]], [["a", 0, 0, {}]]]},
      {"class_name": "Add", "name": "sum", "config": {"name": "sum", "trainable": true, "dtype": "float32"},
        "inbound_nodes": [[["in", 0, 0, {}], ["a", 1, 0, {}]]]}],
      "input_layers": [["in", 0, 0]], "output_layers": [["sum", 0, 0]]}}]=]
    nn.seed(1)
    local kernel, bias = nn.randn(4, 4), nn.randn(4)
    local image = assert(core.h5_image { datasets = { { path = "/model_weights/a/a/kernel:0", tensor = kernel },
      { path = "/model_weights/a/a/bias:0", tensor = bias } }, attrs = { { path = "/", name = "model_config", value = config },
      { path = "/model_weights", name = "layer_names", value = { "in", "a", "sum" } },
      { path = "/model_weights/a", name = "weight_names", value = { "a/kernel:0", "a/bias:0" } },
      { path = "/model_weights/in", name = "weight_names", value = {} }, { path = "/model_weights/sum", name = "weight_names", value = {} } } })
    local python = os.getenv "NNLUA_PYTHON" or "/usr/bin/python3"
    local file, other = temporary(), temporary()
    spill(file, image)
    local copy = [[import h5py,sys; a=h5py.File(sys.argv[1],'r'); b=h5py.File(sys.argv[2],'w'); [b.attrs.__setitem__(k,v) for k,v in a.attrs.items()];
a.copy('model_weights',b); b.close()]]
    if not os.execute(('%s -c "%s" %s %s 2>/dev/null'):format(python, copy, file, other)) then
      pending "python3-h5py is not installed"
      return
    end
    local model = assert(nn.load(other))
    local x = nn.randn(5, 4)
    local want = x + nn.tanh(nn.tanh(x:matmul(kernel) + bias):matmul(kernel) + bias)
    assert.truthy(farthest(model:predict(x), want) < 1e-6)
  end)

  describe("that do not fit", function()
    local function refused(model_or_nil, file, ...)
      local ok, message
      if model_or_nil then ok, message = model_or_nil:load_weights(file) else ok, message = nn.load(file) end
      assert.falsy(ok)
      for _, word in ipairs { ... } do assert.truthy(message:find(word, 1, true), message) end
      assert.falsy(message:find("\n", 1, true), message)
    end

    it("name the first difference and change nothing", function()
      local model = nn.Sequential { nn.Input { 28, 28, 1 }, nn.Flatten {}, nn.Dense { 9 }, nn.BatchNorm {}, nn.Dense { 10 } }
      local before = model[3].kernel:sum():item()
      refused(model, golden .. "mlp.weights.h5", "mlp.weights.h5", "/layers/dense/vars/0 is 784x8 in the file, 784x9 here")
      refused(model, golden .. "mlp.h5", "mlp.h5", "dense, weight 1", "784x8")
      refused(model, golden .. "cnn.weights.h5", "has no /layers/")
      refused(nn.Sequential { nn.Input { 784 }, nn.Dense { 8 } }, golden .. "mlp.weights.h5", "which this model has no weight for")
      refused(nil, golden .. "mlp.weights.h5", "load_weights")
      assert.equal(before, model[3].kernel:sum():item())
    end)

    it("never make code run and name what is unknown", function()
      local members = assert(zip.open(golden .. "mlp.keras"))
      local config, weights = members.read "config.json", members.read "model.weights.h5"
      members.close()
      local function with(text)
        local file = temporary ".keras"
        spill(file, zip.pack { { "metadata.json", "{}" }, { "config.json", text }, { "model.weights.h5", weights } })
        return file
      end
      refused(nil, with(config:gsub('"Flatten"', '"Lambda"')), "Lambda")
      refused(nil, with(config:gsub('"Flatten"', '"os.execute"')), "os.execute")
      refused(nil, with(config:gsub('"Flatten"', '"__index"')), "__index")
      refused(nil, with(config:gsub('"channels_last"', '"channels_first"')), "data_format")
      refused(nil, with(config:gsub('"units": 8', '"units": 7')), "dense", "784x8", "784x7")
      refused(nil, with(config:gsub('"units": 8', '"units": -8')), "units")
      refused(nil, with(config:sub(1, -9)), "bad JSON")
      refused(nil, with "[]", "description")
      refused(nil, with '{"class_name": "Sequential", "config": {"layers": [7]}}', "class_name")
    end)
  end)
end)

describe("hostile descriptions", function()
  local function inputs(shape) return ('{"class_name": "InputLayer", "config": {"batch_shape": [null, %s]}}'):format(shape) end
  local function one(class_name, config) return ('{"class_name": "%s", "config": {%s}}'):format(class_name, config) end
  local function sequence(...) return ('{"class_name": "Sequential", "config": {"layers": [%s]}}'):format(table.concat({ ... }, ", ")) end
  local dense = one("Dense", '"units": 4')
  local BIG = 1 << 40

  for what, config in pairs {
    ["2^40 units"] = sequence(inputs "4", one("Dense", '"units": ' .. BIG)),
    ["2^62 units"] = sequence(inputs "4", one("Dense", '"units": ' .. (1 << 62))),
    ["1e300 units"] = sequence(inputs "4", one("Dense", '"units": 1e300')),
    ["a square of 10^5"] = sequence(inputs "4", one("Dense", '"units": 100000'), one("Dense", '"units": 100000')),
    ["an input of 2^50"] = sequence(inputs "1125899906842624", dense),
    ["an embedding of 2^50"] = sequence(inputs "4", one("Embedding", '"input_dim": ' .. BIG .. ', "output_dim": 1024')),
    ["2^40 repetitions"] = sequence(inputs "4", one("RepeatVector", '"n": ' .. BIG), dense),
    ["2^40 rows of padding"] = sequence(inputs "4, 4, 1", one("ZeroPadding2D", '"padding": ' .. BIG), one("Flatten", ""), dense),
    ["an LSTM of 3000 units, whose first values take minutes"] = sequence(inputs "4, 4", one("LSTM", '"units": 3000')),
    ["a GRU of 20000 units"] = sequence(inputs "4, 4", one("GRU", '"units": 20000')),
    ["a kernel of 10^12"] = sequence(inputs "4, 4, 1", one("Conv2D", '"filters": 8, "kernel_size": [1000000, 1000000], "padding": "same"')),
    ["2^40 bins"] = sequence(inputs "4", one("Discretization", '"num_bins": ' .. BIG)),
    ["a shape of 2^40"] = sequence(inputs "4", one("Reshape", '"target_shape": [' .. BIG .. ", -1]")),
    ["nesting of 100"] = ('{"class_name": "Sequential", "config": {"layers": ['):rep(100) .. ("]}}"):rep(100),
    ["20000 layers"] = sequence(inputs "4", (dense .. ", "):rep(20000) .. dense),
  } do
    it("that ask for " .. what .. " are refused at once, before memory is", function()
      local members = assert(zip.open(golden .. "mlp.keras"))
      local weights = members.read "model.weights.h5"
      members.close()
      local file = temporary ".keras"
      spill(file, zip.pack { { "metadata.json", "{}" }, { "config.json", config }, { "model.weights.h5", weights } })
      local before, start = core.memory().peak or 0, os.clock()
      local model, message = nn.load(file)
      assert.is_nil(model)
      assert.falsy(message:find("\n", 1, true), message)
      assert.is_true(os.clock() - start < 2)
      assert.is_true((core.memory().peak or 0) - before < 64e6)
    end)
  end
end)

describe("ZIP archives", function()
  local bytes = zip.pack { { "a.txt", "hello" }, { "b/c.bin", ("\0\1"):rep(500) } }

  it("come back, and other programs read them", function()
    local z = assert(zip.parse(bytes, "mine"))
    assert.same({ "a.txt", "b/c.bin" }, z.names)
    assert.equal("hello", z.read "a.txt")
    assert.equal(1000, #z.read "b/c.bin")
    assert.truthy(select(2, z.read "x"):find "no member")
    local python, file = os.getenv "NNLUA_PYTHON" or "/usr/bin/python3", temporary()
    spill(file, bytes)
    assert(os.execute(python .. " -c 'import zipfile,sys; z = zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None' " .. file))
    assert(os.execute(python .. " -c 'import zipfile,sys; z = zipfile.ZipFile(sys.argv[1], \"w\", 8); z.writestr(\"q\", \"abc\" * 999)' " .. file))
    local deflated = assert(zip.open(file))
    assert.equal(("abc"):rep(999), deflated.read "q")
    deflated.close()
  end)

  it("are refused when they lie", function()
    local function replaced(at, new) return bytes:sub(1, at - 1) .. new .. bytes:sub(at + #new) end
    local list = bytes:find("PK\1\2", 1, true)
    local second = bytes:find("PK\1\2", list + 4, true)
    for what, bad in pairs {
      ["end record"] = bytes:sub(1, -2), ["outside"] = replaced(list + 42, string.pack("<I4", 1 << 30)),
      ["cannot hold"] = replaced(list + 24, string.pack("<I4", 1 << 30)), ["encrypted"] = replaced(list + 8, "\1"),
      ["method 12"] = replaced(list + 10, "\12"), ["leads elsewhere"] = (bytes:gsub("b/c.bin", "../.bin")), ["overlap"] = replaced(second + 42, "\1"),
      ["CRC%-32"] = (bytes:gsub("hello", "hellO")), ["comes twice"] = zip.pack { { "a", "1" }, { "a", "2" } },
      ["symbolic"] = replaced(list + 38, string.pack("<I4", 0xa1ff0000)),
    } do
      local z, message = zip.parse(bad, "bad")
      if z then z, message = z.read "a.txt" end
      assert.is_nil(z)
      assert.truthy(message:find(what), what .. ": " .. message)
    end
  end)

  it("survive changes at every byte", function()
    for at = 1, #bytes do
      local z = zip.parse(bytes:sub(1, at - 1) .. string.char(bytes:byte(at) ~ 0x55) .. bytes:sub(at + 1), "changed")
      if z then
        for _, name in ipairs(z.names) do z.read(name) end
      end
      zip.parse(bytes:sub(1, at), "cut")
    end
  end)
end)
