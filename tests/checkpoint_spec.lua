-- lua/nnlua/checkpoint.lua and keras.lua.
local nn = require "nnlua"
local core = require "nnlua.core"
local checkpoint = require "nnlua.checkpoint"
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local files = dofile(here .. "files.lua")
local support = dofile(here .. "support.lua")
local temporary, slurp = files.temporary, files.read
local it = support.on_device(it)
local message = support.message

local function layers(options)
  options = options or {}
  return {
    nn.Input { 6, 6, 1 }, nn.Rescaling { 1 / 255 }, nn.Conv2D { 4, 3, activation = "relu", padding = "same" }, nn.MaxPooling2D { 2 },
    nn.Dropout { 0.25 }, nn.Flatten {}, nn.Dense { options.units or 8, init = "he_normal" }, nn.BatchNorm {}, nn.LeakyReLU { 0.01 },
    nn.Dense { 3, name = "head" },
  }
end

local function compiled(model, optimizer)
  return model:compile { optimizer = optimizer or nn.optim.Adam { lr = 0.01 }, loss = "sparse_categorical_crossentropy", from_logits = true,
    metrics = { "accuracy" } }
end

local function samples(n)
  local draw, x, y = support.noise(7), {}, {}
  for i = 1, n do
    x[i], y[i] = {}, i % 3 + 1
    for j = 1, 36 do x[i][j] = 127 + 100 * draw() + 20 * y[i] end
  end
  return nn.tensor(x):reshape { n, 6, 6, 1 }, nn.tensor(y, { dtype = "i64" })
end

-- All that is saved, as plain numbers and texts.
local function numbers(model)
  local out = {}
  for i, w in ipairs(model:weights()) do out[i] = { w.name, w.tensor:totable() } end
  return out
end

local function slots(optimizer)
  local out = { optimizer.iterations }
  for _, s in ipairs(optimizer:state().slots) do out[#out + 1] = { s.name, s.slot, s.tensor:totable() } end
  return out
end

local x, y = samples(40)

-- Each data set draws its seed where it is made, as a script does that is run again.
local function data() return nn.data.from_tensors(x, y):shuffle(40):batch(8) end

local function trained(epochs, optimizer)
  nn.seed(5)
  local model = compiled(nn.Sequential(layers()), optimizer)
  model:fit { data(), epochs = epochs, verbose = 0 }
  return model
end

describe("checkpoints", function()
  teardown(files.clean)

  it("give back the model, its optimizer and where training stood", function()
    local file, model = temporary(), trained(2)
    assert.is_true(model:save(file))
    local rng = core.rng_state()
    local other, info = assert(nn.load(file))
    assert.same(rng, core.rng_state())
    assert.equal(tostring(model), tostring(other))
    assert.same(numbers(model), numbers(other))
    assert.same(slots(model.compiled.optimizer), slots(other.compiled.optimizer))
    assert.same(model.compiled.optimizer:config(), other.compiled.optimizer:config())
    assert.equal(2, info.progress.epoch)
    assert.same(model.history.loss, other.history.loss)
    assert.same(model.progress.rng, info.rng)
    assert.equal("sparse_categorical_crossentropy", other.compiled.outputs[1].loss_name)
    assert.equal(true, other.compiled.outputs[1].from_logits)
    assert.equal("accuracy", other.compiled.meters[2].name)
    assert.same(model:predict(x):totable(), other:predict(x):totable())
    assert.same({ model:evaluate(x, y) }, { other:evaluate(x, y) })
    local again = temporary()
    assert(other:save(again))
    assert.equal(slurp(file), slurp(again))
  end)

  for name, optimizer in pairs {
    adam = function() return nn.optim.Adam { lr = 0.01 } end,
    sgd = function() return nn.optim.SGD { lr = 0.05, momentum = 0.9, nesterov = true } end,
  } do
    it("resume to the same bits as training straight on: " .. name, function()
      local file = temporary()
      local straight = trained(3, optimizer())
      nn.seed(5)
      local first = compiled(nn.Sequential(layers()), optimizer())
      first:fit { data(), epochs = 1, verbose = 0, save = file }
      nn.seed(5) -- a new process
      local second = compiled(nn.Sequential(layers()), optimizer())
      second:fit { data(), epochs = 3, verbose = 0, resume = file }
      assert.same(numbers(straight), numbers(second))
      assert.same(slots(straight.compiled.optimizer), slots(second.compiled.optimizer))
      assert.same(straight.history.loss, second.history.loss)
      assert.same(straight.history.epoch, second.history.epoch)
    end)
  end

  it("build a model without an Input, and nested ones", function()
    local file = temporary()
    local model = nn.Sequential { nn.Flatten {}, nn.Sequential { nn.Dense { 4 }, nn.BatchNorm {} }, nn.Dense { 2 } }
    assert.truthy(message(model.save, model, file):find "is not built yet")
    model:build { 3, 2 }
    assert(model:save(file))
    local other = assert(nn.load(file))
    assert.same(numbers(model), numbers(other))
    assert.is_nil(rawget(other, "compiled"))
  end)

  it("hold modules of the user's: weights, and models when their class is known", function()
    local Scale = nn.class("Scale", nn.Layer)
    Scale.options = { start = { "number", position = 1, default = 1 } }
    function Scale:build(shape) self.gain = self:weight({ shape[#shape] }, nn.initializers.constant { self.start }) end
    function Scale:forward(t) return t * self.gain end
    local file = temporary()
    local model = nn.Sequential { nn.Input { 3 }, Scale { 2.5 }, nn.Dense { 2 } }
    assert(model:save(file))
    local none, err = nn.load(file)
    assert.is_nil(none)
    assert.truthy(err:find(file, 1, true) and err:find("Scale", 1, true), err)
    nn.register_layer(Scale)
    assert.same(numbers(model), numbers(assert(nn.load(file))))

    local Net = nn.class("Net", nn.Module)
    function Net:init() self.layers, self.bias = { nn.Linear(3, 4), nn.Linear(4, 2) }, nn.parameter(nn.zeros(2)) end
    function Net:forward(t) return self.layers[2](self.layers[1](t):relu()) + self.bias end
    local net, twin = Net(), Net()
    assert(net:save(file))
    assert.is_not.same(numbers(net), numbers(twin))
    assert.is_true(twin:load_weights(file))
    assert.same(numbers(net), numbers(twin))
    none, err = nn.load(file)
    assert.is_nil(none)
    assert.truthy(err:find("load_weights", 1, true), err)
  end)

  it("of a loop by hand carry its optimizer and the user's own data", function()
    local file, net = temporary(), nn.Linear(3, 2)
    local opt = nn.optim.Adam { net:parameters(), lr = 0.1 }
    net(nn.ones(4, 3)):sum():backward()
    opt:step()
    local mine = { lists = { 1, 2.5, { "x" } }, best = 0 / 0, worst = -math.huge, holes = { nil, 2 }, none = {} }
    assert(checkpoint.save(net, file, { optimizer = opt, user = mine }))
    local twin = nn.Linear(3, 2)
    local opt2 = nn.optim.Adam { twin:parameters(), lr = 0.1 }
    local ok, info = checkpoint.restore(twin, file, { optimizer = opt2 })
    assert.is_true(ok)
    assert.same(numbers(net), numbers(twin))
    assert.same(slots(opt), slots(opt2))
    assert.is_true(info.user.best ~= info.user.best)
    info.user.best, mine.best = nil, nil
    assert.same(mine, info.user)
    assert.truthy(message(checkpoint.save, net, file, { optimiser = opt }):find('did you mean "optimizer"', 1, true))
  end)

  it("of another model are refused, naming the first difference, and change nothing", function()
    local file = temporary()
    local model = trained(1)
    assert(model:save(file))
    local function refused(other, expected, how)
      local before, state = numbers(other), other.compiled and slots(other.compiled.optimizer)
      local ok, err = (how or checkpoint.restore)(other, file)
      assert.is_nil(ok)
      assert.truthy(err:find(file, 1, true) and err:find(expected, 1, true) and not err:find "\n", err)
      assert.same(before, numbers(other))
      if state then assert.same(state, slots(other.compiled.optimizer)) end
      assert.is_nil(rawget(other, "progress"))
    end
    refused(nn.Sequential(layers { units = 9 }), "weight 3 is dense.kernel (f32 36x8) in the file, dense.kernel (f32 36x9) here")
    refused(nn.Sequential(layers { units = 9 }), "another model", checkpoint.load_weights)
    local list = layers()
    table.remove(list, 3)
    refused(nn.Sequential(list), "weight 1 is conv2d.kernel (f32 3x3x1x4) in the file, dense.kernel (f32 9x8) here")
    list = layers()
    table.remove(list, 8)
    refused(nn.Sequential(list), "weight 5 is batch_normalization.gamma (f32 8) in the file, head.kernel (f32 8x3) here")
    list = layers()
    list[#list + 1] = nn.Dense { 3, use_bias = false }
    refused(nn.Sequential(list), "dense_1.kernel (f32 3x3) here")
    refused(compiled(nn.Sequential(layers()), nn.optim.SGD { momentum = 0.5 }), "its optimizer is Adam, this one is SGD")
    local sgd = trained(1, nn.optim.SGD { momentum = 0.5 })
    assert(sgd:save(file))
    local plain = compiled(nn.Sequential(layers()), nn.optim.SGD {})
    refused(plain, "momentum of conv2d.kernel")
    local fits, err = pcall(plain.fit, plain, { data(), epochs = 1, verbose = 0, resume = file })
    assert.is_false(fits)
    assert.truthy(err:find("cannot resume", 1, true))
  end)

  it("that are damaged, newer or something else are refused", function()
    local file, model = temporary(), nn.Sequential { nn.Input { 4 }, nn.Dense { 3 } }
    assert(model:save(file))
    local before, text = numbers(model), slurp(file)
    local function refused(expected)
      for _, how in ipairs { nn.load, function(f) return model:load_weights(f) end, function(f) return checkpoint.restore(model, f) end } do
        local ok, err = how(file)
        assert.is_nil(ok)
        assert.truthy(err:find(file, 1, true) and err:find(expected, 1, true), err)
      end
      assert.same(before, numbers(model))
    end
    for i = 0, 49 do
      local f = assert(io.open(file, "wb"))
      f:write(text:sub(1, #text * i // 50))
      f:close()
      refused ""
    end
    assert(nn.h5.save(file, { ["/x"] = nn.ones(2) }, { ["/nnlua"] = { note = "x" } }))
    refused "no checkpoint"
    assert(nn.h5.save(file, { ["/x"] = nn.ones(2) }, { ["/nnlua"] = { format_version = 2, weights = "[]" } }))
    refused "format 2; this nnlua reads format 1"
    assert(nn.h5.save(file, { ["/x"] = nn.ones(2) }, { ["/nnlua"] = { format_version = 1, weights = "{" } }))
    refused "bad JSON in weights"
    assert(nn.h5.save(file, { ["/x"] = nn.ones(2) }, { ["/nnlua"] = { format_version = 1, weights = '[{"name":"w","path":"/y"}]' } }))
    refused "item 1 of its index has no data"
    os.remove(file)
    refused "No such file"
  end)

  it("that are corrupted change nothing in memory", function()
    local file, model = temporary(), trained(1)
    if core.sys.file_type "/dev/shm" == "folder" then -- 10,000 files take a disk its time
      file = "/dev/shm/" .. file:match "[^/]*$" .. ".h5"
      files[#files + 1] = file
    end
    assert(model:save(file))
    local before, state, text = numbers(model), slots(model.compiled.optimizer), slurp(file)
    local seed, count = support.seed(99), support.cases(nn.device() == "cpu" and not nn.eager() and 10000 or 300) -- no file runs on a device
    local random, refused = support.random(seed), 0
    for i = 1, count do
      local at = random.int(1, #text)
      local bytes = i % 3 == 0 and text:sub(1, at - 1) or
        text:sub(1, at - 1) .. string.char(text:byte(at) ~ 1 << random.int(0, 7)) .. text:sub(at + 1)
      local f = assert(io.open(file, "wb"))
      f:write(bytes)
      f:close()
      if not (i % 2 == 0 and checkpoint.restore or checkpoint.load_weights)(model, file) then refused = refused + 1 end
      if i % 500 == 0 then
        assert.same(before, numbers(model))
        assert.same(state, slots(model.compiled.optimizer))
      end
    end
    assert.equal(count, refused)
    print(("corrupted checkpoints: seed %d, %d cases, each refused, the model as it was"):format(seed, refused))
  end)

  -- Whole files with a digest that fits, as somebody makes who means harm: pieces of their JSON and attributes replaced.
  it("that say what no program of ours would are refused or read, and never raise", function()
    local file, model = temporary(), trained(1)
    assert(model:save(file))
    local tensors, attrs = assert(nn.h5.load(file))
    local own = attrs["/nnlua"]
    local seed, count = support.seed(12), support.cases(300)
    local random, refused, ran = support.random(seed), 0, 0
    local junk = { 0, -1, 1.5, "x", "", true, {}, { 1 }, { {} }, { a = 1 }, 1e300, "os.execute", core.json_null, 1 << 40, "../x", { x = {} } }
    local keys, texts = {}, {}
    for key, value in pairs(own) do
      keys[#keys + 1] = key
      if type(value) == "string" and value:find "^[%[{]" then texts[#texts + 1] = key end
    end
    table.sort(keys)
    table.sort(texts)
    local function nodes(t, list)
      local names = {}
      for key in pairs(t) do names[#names + 1] = key end
      table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
      for _, key in ipairs(names) do
        list[#list + 1] = { t, key }
        if type(t[key]) == "table" then nodes(t[key], list) end
      end
      return list
    end
    local before, state = numbers(model), slots(model.compiled.optimizer)
    for i = 1, count do
      local key = random.pick(i % 4 == 0 and keys or texts)
      local old = own[key]
      if i % 4 == 0 then
        own[key] = random.pick { 0, -1, 1.5, "x", math.maxinteger, math.mininteger, "[]", "{}", "[1]", "[null]" }
      else
        local value = core.json_decode(old)
        local node = random.pick(nodes({ value }, {}))
        if node[2] == 1 and node[1][1] == value then value = random.pick(junk)
        elseif type(node[2]) == "string" and random.chance(0.3) then node[1][node[2]] = nil
        else node[1][node[2]] = random.pick(junk)
        end
        own[key] = core.json_encode(value)
      end
      assert(nn.h5.save(file, tensors, attrs))
      for _, read in ipairs { nn.load, function(f) return compiled(nn.Sequential(layers())):load_weights(f) end,
        function(f) return checkpoint.restore(compiled(nn.Sequential(layers())), f) end } do
        local ok, value, why = pcall(read, file)
        assert.is_true(ok, ("case %d, %s = %s: %s"):format(i, key, own[key], tostring(value)))
        if value == nil then
          assert.truthy(why:find(file, 1, true) and not why:find "\n", why)
          refused = refused + 1
        end
        ran = ran + 1
      end
      if not checkpoint.restore(model, file) then
        assert.same(before, numbers(model))
        assert.same(state, slots(model.compiled.optimizer))
      end
      before, state = numbers(model), slots(model.compiled.optimizer)
      own[key] = old
    end
    assert.is_true(refused > ran / 5 and refused < ran, refused)
    print(("checkpoints made to mislead: seed %d, %d files, %d of %d readings refused"):format(seed, count, refused, ran))
  end)

  it("say when they were written with other kernels", function()
    local program = dofile(here .. "program.lua")
    local other = core.cpu_level():find "x86%-64%-v2" and "v3" or "v2"
    if not program.path or not core.cpu_level():find "x86" then return pending "needs nnlua on x86-64" end
    local file, model = temporary(), nn.Sequential { nn.Input { 4 }, nn.Dense { 3 } }
    assert(model:save(file))
    local script = temporary()
    program.write(script, ([[
      local nn = require "nnlua"
      local model = nn.Sequential { nn.Input { 4 }, nn.Dense { 3 } }
      warn "@on"
      print(require("nnlua.checkpoint").restore(model, %q))]]):format(file))
    local out, err = program.run { script }
    assert.same({ "true", "" }, { out:match "^%a+", err })
    out, err = program.run({ script }, { env = "NNLUA_ISA=" .. other })
    assert.equal("true", out:match "^%a+")
    assert.truthy(err:find("written with " .. core.cpu_level() .. " kernels", 1, true), err)

    -- of one level, but products by other kernels of OpenBLAS
    local again = temporary()
    program.write(again, ([[
      local nn = require "nnlua"
      assert(nn.Sequential { nn.Input { 4 }, nn.Dense { 3 } }:save(%q))]]):format(file))
    out, err = program.run({ again }, { env = "NNLUA_ISA=v2 OPENBLAS_CORETYPE=Haswell" })
    assert.same({ "", "" }, { out, err })
    for _, kernels in ipairs { "Haswell", "Nehalem" } do
      out, err = program.run({ script }, { env = "NNLUA_ISA=v2 OPENBLAS_CORETYPE=" .. kernels })
      assert.equal("true", out:match "^%a+")
      if kernels == "Haswell" then
        assert.equal("", err)
      elseif assert(nn.h5.load(file)) then
        local level = select(2, nn.h5.load(file))["/nnlua"].cpu_level
        if not level:find "OpenBLAS" then return pending "products are not OpenBLAS's" end
        assert.truthy(err:find("with OpenBLAS Haswell kernels, this machine uses x86-64-v2 with OpenBLAS Nehalem", 1, true), err)
      end
    end
  end)

  it("never run what a file names", function()
    local file = temporary()
    for _, name in ipairs { "os.execute", "__index", "get", "layer_class", "../x", "Layer", "define", "" } do
      local architecture = core.json_encode { class_name = name, config = { layers = {} } }
      assert(nn.h5.save(file, {}, { ["/nnlua"] = { format_version = 1, weights = "[]", architecture = architecture } }))
      local model, err = nn.load(file)
      assert.is_nil(model)
      assert.truthy(err:find(file, 1, true), err)
      architecture = core.json_encode { class_name = "Sequential", config = { layers = { { class_name = name, config = {} } } } }
      assert(nn.h5.save(file, {}, { ["/nnlua"] = { format_version = 1, weights = "[]", architecture = architecture } }))
      model, err = nn.load(file)
      assert.is_nil(model)
      assert.truthy(err:find(file, 1, true), err)
    end
  end)
end)

describe("checkpoints in Keras's layout", function()
  teardown(files.clean)

  -- What keras/src/legacy/saving/legacy_h5_format.py reads, in the order in which it reads it.
  it("have its groups, names and texts", function()
    local file, model = temporary(), trained(1)
    assert(model:save(file))
    local tree = assert(core.h5_read(file))
    local d, a = tree.datasets, tree.attrs
    local config = assert(core.json_decode(a["/"].model_config))
    assert.equal("Sequential", config.class_name)
    local names = {}
    for i, layer in ipairs(config.config.layers) do
      names[i] = layer.class_name
      assert.equal(layer.config.name, model[i].name)
    end
    assert.equal("InputLayer Rescaling Conv2D MaxPooling2D Dropout Flatten Dense BatchNormalization LeakyReLU Dense", table.concat(names, " "))
    assert.same({ core.json_null, 6, 6, 1 }, config.config.layers[1].config.batch_input_shape)
    assert.same({ 3, 3 }, config.config.layers[3].config.kernel_size)
    assert.is_nil(config.config.layers[3].config.groups)
    assert.equal("HeNormal", config.config.layers[7].config.kernel_initializer.class_name)
    assert.equal(0.01, config.config.layers[9].config.alpha)
    local training = assert(core.json_decode(a["/"].training_config))
    assert.equal("Adam", training.optimizer_config.class_name)
    assert.equal(0.01, training.optimizer_config.config.learning_rate)
    assert.equal("SparseCategoricalCrossentropy", training.loss.class_name)
    assert.is_true(training.loss.config.from_logits)
    assert.same({ "accuracy" }, training.metrics)
    assert.equal(core.json_null, training.loss_weights)

    assert.same({ "input", "rescaling", "conv2d", "max_pooling2d", "dropout", "flatten", "dense", "batch_normalization", "leaky_re_lu", "head" },
      a["/model_weights"].layer_names)
    assert.equal(a["/"].keras_version, a["/model_weights"].keras_version)
    assert.same({}, a["/model_weights/top_level_model_weights"].weight_names)
    local count = 0
    for _, layer in ipairs(a["/model_weights"].layer_names) do
      local group = "/model_weights/" .. layer
      for _, weight in ipairs(a[group].weight_names) do
        assert.truthy(d[group .. "/" .. weight], weight)
        count = count + 1
      end
    end
    assert.equal(#model:weights(), count)
    assert.same({ "batch_normalization/gamma:0", "batch_normalization/beta:0", "batch_normalization/moving_mean:0",
      "batch_normalization/moving_variance:0" }, a["/model_weights/batch_normalization"].weight_names)
    assert.same(model:layer("head").kernel:totable(), d["/model_weights/head/head/kernel:0"]:totable())

    local list = a["/optimizer_weights"].weight_names
    assert.same({ "adam/iteration", "adam/learning_rate", "adam/conv2d/kernel_momentum", "adam/conv2d/kernel_velocity" },
      table.move(list, 1, 4, 1, {}))
    assert.equal(2 + 2 * #model:parameters(), #list)
    for _, name in ipairs(list) do assert.truthy(d["/optimizer_weights/" .. name], name) end
    assert.equal(5, d["/optimizer_weights/adam/iteration"]:item())
  end)

  it("get an InputLayer when the model has none", function()
    local file, model = temporary(), nn.Sequential { nn.Dense { 2, name = "input" } }
    model:build { 3 }
    assert(model:save(file))
    local config = core.json_decode(assert(core.h5_read(file)).attrs["/"].model_config).config
    assert.equal("input_", config.layers[1].config.name)
    assert.same({ core.json_null, 3 }, config.layers[1].config.batch_input_shape)
  end)
end)
