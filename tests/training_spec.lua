-- lua/nnlua/models.lua and training.lua.
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local it = support.on_device(it)
local close, message = support.close, support.message

-- Three classes of points that a line cannot part: noise around three centres, twice.
local function points(n)
  local draw = support.noise(2)
  local x, y = {}, {}
  for i = 1, n do
    local class = i % 3 + 1
    local far = i % 2 == 0 and 2 or -2
    x[i] = { far * (class == 1 and 1 or 0) + 0.3 * draw(), far * (class == 2 and 1 or 0) + 0.3 * draw() }
    y[i] = class
  end
  return nn.tensor(x), nn.tensor(y, { dtype = "i64" })
end

local function small(options)
  options = options or {}
  return nn.Sequential { nn.Input { 2 }, nn.Dense { 16, activation = "relu" }, nn.Dropout { options.dropout or 0 }, nn.Dense { 3 } }
end

local function compiled(model, lr)
  return model:compile { optimizer = nn.optim.Adam { lr = lr or 0.02 }, loss = "sparse_categorical_crossentropy", from_logits = true,
    metrics = { "accuracy" } }
end

-- All weights as plain numbers.
local function numbers(model)
  local out = {}
  for i, w in ipairs(model:weights()) do out[i] = w.tensor:totable() end
  return out
end

describe("Sequential", function()
  it("names layers and finds them", function()
    local model = nn.Sequential { nn.Input { 28, 28, 1 }, nn.Conv2D { 4, 3 }, nn.MaxPooling2D {}, nn.Flatten {}, nn.Dense { 5 }, nn.BatchNorm {},
      nn.ReLU {}, nn.Dense { 5 }, nn.Dense { 2, name = "head" } }
    local names = {}
    for i = 1, #model do names[i] = model[i].name end
    assert.same({ "input", "conv2d", "max_pooling2d", "flatten", "dense", "batch_normalization", "re_lu", "dense_1", "head" }, names)
    assert.equal(model[8], model:layer "dense_1")
    assert.equal(model[9], model:layer(-1))
    assert.truthy(message(model.layer, model, "dens"):find('did you mean "dense"?', 1, true))
    assert.equal("dense_1.kernel", model:named_parameters()[7].name)
  end)

  it("builds at once with an Input, and layer by layer", function()
    local model = nn.Sequential { nn.Input { 4 } }
    model:add(nn.Dense { 3 }):add(nn.Dense { 2 })
    assert.equal(4, #model:parameters())
    assert.equal("Dense(3 -> 2)", tostring(model[3]))
  end)

  it("builds with the first batch otherwise", function()
    local model = nn.Sequential { nn.Flatten {}, nn.Dense { 3 } }
    assert.truthy(message(model.parameters, model):find("is not built yet", 1, true))
    assert.equal(4, #nn.Sequential { nn.Linear(2, 3), nn.Tanh {}, nn.Dropout { 0.5 }, nn.Linear(3, 1) }:parameters()) -- nothing to wait for
    assert.truthy(message(model.parameters, nn.Sequential { nn.Tanh {}, nn.TimeDistributed { nn.Dense { 1 } } }):find("is not built yet", 1, true))
    model(nn.ones(2, 2, 2))
    assert.same({ 4, 3 }, model[2].kernel:shape())
    local other = nn.Sequential { nn.Flatten {}, nn.Dense { 3 } }
    assert.same({ 4, 3 }, other:build { 2, 2 }[2].kernel:shape())
  end)

  it("holds modules of the user and other models", function()
    local Twice = nn.class("Twice", nn.Module)
    function Twice:forward(x) return x * 2 end -- luacheck: no unused args
    local inner = nn.Sequential { nn.Dense { 3, init = "ones" }, nn.ReLU {} }
    local model = nn.Sequential { nn.Input { 2 }, inner, Twice(), nn.Dense { 1, init = "ones" } }
    close({ { 12 } }, model(nn.ones(1, 2)))
    assert.same({ "sequential.dense.kernel", "sequential.dense.bias", "dense.kernel", "dense.bias" }, model:parameters().names)
  end)

  it("says what is wrong with a layer", function()
    assert.equal("Sequential: layer 1 is a class; make one of it: nn.Dense{...}", message(nn.Sequential, { nn.Dense }))
    assert.truthy(message(nn.Sequential, { 3 }):find("layer 1 must be a layer or module, got 3", 1, true))
    local layer = nn.Dense { 2 }
    assert.truthy(message(nn.Sequential, { layer, layer }):find("layer 2 is already in the model, as layer 1", 1, true))
    assert.truthy(message(nn.Sequential, { nn.Flatten { name = "a" }, nn.Flatten { name = "a" } }):find('two layers have the name "a"', 1, true))
    assert.truthy(message(nn.Sequential, { nn.Input { 4 }, nn.Conv2D { 2, 3 } }):find("conv2d: needs images", 1, true))
  end)

  it("checks what comes in", function()
    local m = message(small(), nn.ones(4, 3))
    assert.truthy(m:find("takes batches (N, 2), got a tensor of shape (4, 3)", 1, true), m)
  end)

  it("summarizes", function()
    assert.equal([[
Layer              Output shape  Parameters  FLOPs
--------------------------------------------------
input (Input)      (N, 2)                 0     0
dense (Dense)      (N, 16)               48    96
dropout (Dropout)  (N, 16)                0     0
dense_1 (Dense)    (N, 3)                51    99
--------------------------------------------------
99 parameters: 99 trained, 0 not; 195 FLOP for one sample]], small():summary_text())
    assert.truthy(nn.Sequential { nn.Dense { 2 } }:summary_text():find("not built yet", 1, true))
  end)

  it("round trips through its configuration", function()
    local model = nn.Sequential { name = "net", nn.Input { 8, 8, 1 }, nn.Rescaling { 1 / 255 }, nn.Conv2D { 4, 3, activation = "relu" },
      nn.MaxPooling2D { 2 }, nn.Flatten {}, nn.Dense { 3, init = "he_normal" }, nn.BatchNorm {}, nn.LeakyReLU { 0.01 }, nn.Softmax {} }
    local copy = nn.Sequential.from_config(nn.Sequential, model:config())
    assert.equal(tostring(model), tostring(copy))
    assert.same(model:config(), copy:config())
    copy:load_state(model:state())
    local x = nn.randn(2, 8, 8, 1)
    assert.same(model:eval()(x):totable(), copy:eval()(x):totable())
  end)
end)

describe("fit", function()
  before_each(function() nn.seed(4) end)

  it("learns, and records every epoch", function()
    local x, y = points(300)
    local model = compiled(small())
    local history = model:fit { x, y, epochs = 30, batch_size = 32, validation = { x, y }, verbose = 0 }
    assert.equal(30, #history.loss)
    assert.equal(30, #history.val_accuracy)
    assert.is_true(history.loss[30] < 0.5 * history.loss[1])
    assert.is_true(history.val_accuracy[30] > 0.97, history.val_accuracy[30])
    local epoch, value = history:best "val_accuracy"
    assert.equal(history.val_accuracy[epoch], value)
    epoch, value = history:best "val_loss"
    for _, v in ipairs(history.val_loss) do assert.is_true(value <= v) end
    assert.equal(history.val_loss[epoch], value)
    assert.truthy(message(history.best, history, "val_f1"):find("measured: accuracy, loss, val_accuracy, val_loss", 1, true))
    local loss, m = model:evaluate(x, y)
    assert.equal(history.val_loss[30], loss)
    assert.equal(history.val_accuracy[30], m.accuracy)
    assert.is_true(model.training)
  end)

  it("weighs an odd last batch by its samples", function()
    local x, y = points(70)
    local model = compiled(small(), 0)
    local history = model:fit { x, y, epochs = 1, batch_size = 32, verbose = 0 } -- a learning rate of 0: one set of weights for all
    local scores = model:predict(x)
    close(nn.losses.cross_entropy(scores, y):item(), history.loss[1], 1e-5)
    close(nn.metrics.accuracy(scores, y):item(), history.accuracy[1], 1e-6)
    for _, size in ipairs { 7, 32, 70 } do
      local loss, m = model:evaluate(nn.data.from_tensors(x, y):batch(size))
      close(history.loss[1], loss, 1e-5)
      close(history.accuracy[1], m.accuracy, 1e-6)
    end
  end)

  it("is the same loop as one by hand, to the bit", function()
    local x, y = points(96)
    local ds = nn.data.from_tensors(x, y):batch(32)
    nn.seed(7)
    local a = compiled(small { dropout = 0.25 })
    a:fit { ds, epochs = 2, verbose = 0 }
    nn.seed(7)
    local b = small { dropout = 0.25 }
    local opt = nn.optim.Adam { b:parameters(), lr = 0.02 }
    for _ = 1, 2 do
      for bx, by in ds:iter() do
        local loss = nn.losses.cross_entropy(b(bx), by)
        opt:zero_grad()
        loss:backward()
        opt:step()
      end
    end
    assert.same(numbers(b), numbers(a))
  end)

  it("gives the same bits for the same seed, in any number of threads", function()
    local x, y = points(100)
    local results, threads = {}, nn.threads()
    for i, n in ipairs { 1, 2, 3 } do
      nn.threads(n)
      nn.seed(11)
      local model = compiled(small { dropout = 0.5 })
      model:fit { x, y, epochs = 2, verbose = 0 }
      results[i] = numbers(model)
    end
    nn.threads(threads)
    assert.same(results[1], results[2])
    assert.same(results[1], results[3])
  end)

  it("gives the same bits when each operator runs at once", function()
    local x, y = points(64)
    local results = {}
    for i, eager in ipairs { false, true } do
      nn.eager(eager)
      nn.seed(11)
      local model = compiled(nn.Sequential { nn.Input { 2 }, nn.Dense { 8 }, nn.BatchNorm {}, nn.LeakyReLU {}, nn.Dropout { 0.3 }, nn.Dense { 3 } })
      local ok, err = pcall(model.fit, model, { x, y, epochs = 2, batch_size = 24, verbose = 0 })
      nn.eager(false)
      assert(ok, err)
      results[i] = numbers(model)
    end
    assert.same(results[1], results[2])
  end)

  it("uses one plan for all steps", function()
    local x, y = points(320)
    local model = compiled(small { dropout = 0.5 })
    local ds = nn.data.from_tensors(x, y):batch(32)
    model:fit { ds, epochs = 1, verbose = 0 }
    local before = nn.run_stats()
    model:fit { ds, epochs = 5, verbose = 0 }
    local after = nn.run_stats()
    assert.equal(before.plan_misses, after.plan_misses)
  end)

  it("builds a model without Input, and modules of the user", function()
    local x, y = points(40)
    local model = compiled(nn.Sequential { nn.Dense { 4 }, nn.Dense { 3 } })
    model:fit { x, y, verbose = 0 }
    assert.equal(4, #model:parameters())
    local Net = nn.class("Net", nn.Module)
    function Net:init() self.a, self.b = nn.Dense { 4, activation = "relu" }, nn.Dense { 3 } end
    function Net:forward(v) return self.b(self.a(v)) end
    local net = compiled(Net())
    local history = net:fit { x, y, epochs = 20, verbose = 0 }
    assert.is_true(history.loss[20] < history.loss[1])
    assert.same({ 40, 3 }, net:predict(x):shape())
  end)

  it("calls back, and stops when asked", function()
    local x, y = points(64)
    local seen = {}
    local model = compiled(small())
    local history = model:fit { x, y, epochs = 10, batch_size = 32, verbose = 0, callbacks = {
      { on_train_begin = function() seen[#seen + 1] = "train" end, on_epoch_begin = function(_, _, epoch) seen[#seen + 1] = "epoch " .. epoch end,
        on_batch_end = function(_, _, batch) seen[#seen + 1] = "batch " .. batch end, on_train_end = function() seen[#seen + 1] = "end" end },
      function(m, epoch, logs)
        seen[#seen + 1] = ("done %d %s"):format(epoch, logs.loss == m.history.loss[epoch])
        m.stop_training = epoch == 2
      end } }
    assert.same({ "train", "epoch 1", "batch 1", "batch 2", "done 1 true", "epoch 2", "batch 1", "batch 2", "done 2 true", "end" }, seen)
    assert.same({ 1, 2 }, history.epoch)
  end)

  it("stops with the epoch when the loss is not finite, and keeps the weights", function()
    local x, y = points(64)
    local model = small():compile { optimizer = nn.optim.SGD { lr = 1e30 }, loss = "sparse_categorical_crossentropy", from_logits = true }
    local m = message(model.fit, model, { x, y, epochs = 3, verbose = 0 })
    assert.truthy(m:find("fit: the loss of epoch 1 is", 1, true), m)
    assert.equal(99, (model:count_params()))
  end)

  it("passes on a class id that is out of range, and loses nothing", function()
    local x, y = points(32)
    local model = compiled(small())
    local before = numbers(model)
    local bad = nn.tensor(support.matrix(1, 32, function(_, j) return j == 5 and 4 or 1 end)[1], { dtype = "i64" })
    local m = message(model.fit, model, { nn.data.from_tensors(x, bad):batch(32), verbose = 0 })
    assert.truthy(m:find("class id 4 at position 5 is not in 1..3", 1, true), m)
    assert.same(before, numbers(model))
    assert.is_true(model:fit { x, y, verbose = 0 }.loss[1] < 10)
  end)

  it("says what is wrong with its use", function()
    local x, y = points(32)
    local model = small()
    assert.truthy(message(model.fit, model, { x, y }):find("compile the model first", 1, true))
    compiled(model)
    assert.truthy(message(model.fit, model, { x, y, epoch = 2 }):find('unknown option "epoch"; did you mean "epochs"?', 1, true))
    assert.truthy(message(model.fit, model, { x, nn.ones(3) }):find("x has 32 samples but y has 3", 1, true))
    assert.truthy(message(model.fit, model, { 5 }):find("needs a data set of batches, or tensors x and y, got 5", 1, true))
    assert.truthy(message(model.compile, model, { loss = "mse", metrics = { "acuracy" } }):find("unknown metric", 1, true))
    assert.truthy(message(model.compile, model, { optimizer = "adam" }):find('option "loss" is missing', 1, true))
    assert.truthy(message(model.fit, model, { nn.data.from_tensors(x):batch(8) }):find("gives no targets", 1, true))
    local m = message(model.fit, model, { nn.ones(32, 5), y, verbose = 0 })
    assert.truthy(m:find("takes batches (N, 2), got a tensor of shape (32, 5)", 1, true), m)
  end)
end)

-- Saving and resuming, with files replaced by a table: what fit keeps is the matter here, not the format.
describe("fit, saved and resumed", function()
  local real, files = package.loaded["nnlua.checkpoint"], nil

  local function snapshot(list)
    local copy = {}
    for i, slot in ipairs(list) do copy[i] = { name = slot.name, slot = slot.slot, tensor = slot.tensor:detach() } end
    return copy
  end

  before_each(function()
    files = {}
    package.loaded["nnlua.checkpoint"] = {
      save = function(model, file)
        local opt = model.compiled.optimizer:state()
        files[file] = { weights = model:state(), optimizer = { iterations = opt.iterations, slots = snapshot(opt.slots) }, progress = model.progress }
        return true
      end,
      restore = function(model, file)
        if not files[file] then return nil, file .. " is not there" end
        model:load_state(files[file].weights)
        model.compiled.optimizer:set_state(files[file].optimizer)
        rawset(model, "progress", files[file].progress)
        return true
      end,
    }
  end)
  after_each(function() package.loaded["nnlua.checkpoint"] = real end)

  -- As a new process would: everything from the seed on.
  local function start()
    local x, y = points(100)
    nn.seed(21)
    return compiled(small { dropout = 0.5 }), nn.data.from_tensors(x, y):shuffle(100):batch(32)
  end

  it("gives the same weights and history as one run", function()
    local straight, ds = start()
    local want = straight:fit { ds, epochs = 3, verbose = 0 }
    local first, ds1 = start()
    first:fit { ds1, epochs = 1, verbose = 0, save = "a" }
    local second, ds2 = start()
    nn.seed(1000) -- the file brings the position of the random stream
    local history = second:fit { ds2, epochs = 3, verbose = 0, resume = "a" }
    assert.same(numbers(straight), numbers(second))
    assert.same(want.loss, history.loss)
    assert.same(want.accuracy, history.accuracy)
    assert.same({ 1, 2, 3 }, history.epoch)
    assert.equal(straight.compiled.optimizer.iterations, second.compiled.optimizer.iterations)
  end)

  it("saves in the middle of an epoch when it is interrupted, and goes on exactly", function()
    local straight, ds = start()
    local want = straight:fit { ds, epochs = 3, verbose = 0 }
    local first, ds1 = start()
    local ok, err = pcall(first.fit, first, { ds1, epochs = 3, verbose = 0, save = "a", callbacks = { {
      on_batch_end = function(_, model, batch)
        if batch == 3 and #model.history.epoch == 1 then error("interrupted", 0) end
      end } } })
    assert.is_false(ok)
    assert.equal("interrupted", err)
    assert.equal(3, files.a.progress.batch)
    assert.equal(1, files.a.progress.epoch)
    local second, ds2 = start()
    local history = second:fit { ds2, epochs = 3, verbose = 0, resume = "a" }
    assert.same(numbers(straight), numbers(second))
    assert.same(want.loss, history.loss)
  end)

  it("goes on exactly wherever Ctrl-C comes, since a step is not cut in two", function()
    local straight, ds = start()
    straight:fit { ds, epochs = 2, verbose = 0 }
    local want, hold = numbers(straight), nn.sys.hold_interrupt
    local held, waiting = false, false
    nn.sys.hold_interrupt = function(on) -- as the program does it, for a hook of our own
      held = on
      if waiting and not on then
        waiting = false
        error("interrupted", 0)
      end
    end
    finally(function()
      nn.sys.hold_interrupt = hold
      debug.sethook()
    end)
    local seen = 0
    for after = 1500, 9000, 500 do
      files = {}
      local first, ds1 = start()
      debug.sethook(function()
        debug.sethook()
        if held then waiting = true else error("interrupted", 0) end
      end, "", after)
      local ok = pcall(first.fit, first, { ds1, epochs = 2, verbose = 0, save = "a" })
      debug.sethook()
      held, waiting = false, false
      if not ok and files.a then
        seen = seen + 1
        local second, ds2 = start()
        second:fit { ds2, epochs = 2, verbose = 0, resume = "a" }
        assert.same(want, numbers(second))
      end
    end
    assert.is_true(seen >= 5, seen)
  end)

  it("says when it cannot", function()
    local model, ds = start()
    assert.equal("fit: cannot resume: b is not there", message(model.fit, model, { ds, verbose = 0, resume = "b" }))
  end)
end)

describe("predict and single batches", function()
  it("predict joins batches, in inference mode", function()
    nn.seed(1)
    local x = points(50)
    local model = small { dropout = 0.5 }
    local all = model:predict(x, 16)
    assert.same({ 50, 3 }, all:shape())
    assert.same(all:totable(), model:eval()(x):totable())
    assert.same(all:totable(), model:predict(nn.data.from_tensors(x):batch(50)):totable())
  end)

  it("train_on_batch and test_on_batch give the loss and figures of that batch", function()
    nn.seed(1)
    local x, y = points(32)
    local model = compiled(small())
    local want = nn.losses.cross_entropy(model(x), y):item()
    local loss, m = model:test_on_batch(x, y)
    close(want, loss)
    local first = model:train_on_batch(x, y)
    close(want, first)
    local second, figures = model:train_on_batch(x, y)
    assert.is_true(second < first)
    assert.equal(second, figures.loss)
    assert.is_number(m.accuracy)
  end)
end)
