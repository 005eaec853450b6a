-- lua/nnlua/training/: epochs of so many steps, validation from the same tensors, options of evaluate and predict, raw labels, history and plot.lua.
local nn = require "nnlua"
local plot = require "nnlua.plot"
local program = dofile "tests/program.lua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local it = support.on_device(it, pending)
local close, message = support.close, support.message

-- One weight w, loss (w x)^2, no steps: the loss of a batch tells which samples are in it.
local function still(given)
  local model = nn.Sequential { nn.Input { 1 }, nn.Dense { 1, use_bias = false, init = "ones" } }
  given = given or {}
  given.optimizer, given.loss = given.optimizer or nn.optim.SGD { lr = 0 }, "mse"
  return model:compile(given)
end
local function column(...)
  local rows = {}
  for i, v in ipairs { ... } do rows[i] = { v } end
  return nn.tensor(rows, { dtype = "f32" })
end
-- Data set of batches of one sample each, 1, 2, ... n.
local function numbers(n, shuffled)
  local rows = {}
  for i = 1, n do rows[i] = i end
  local ds = nn.data.from_tensors(column(table.unpack(rows)), nn.zeros(n, 1))
  return (shuffled and ds:shuffle(n, { seed = 3 }) or ds):batch(1)
end

-- The samples that each epoch of fit saw, as text.
local function seen_by(o)
  local model, out = still(), {}
  local last
  o.verbose = 0
  o.callbacks = { nn.callbacks.Lambda {
    on_epoch_begin = function(_, epoch) out[epoch], last = {}, 0 end,
  } }
  o.callbacks[2] = { on_batch_end = function(_, m, batch)
    local sum = m.compiled.meters[1]:result() * batch
    table.insert(out[#out], math.floor(math.sqrt(sum - last) + 0.5))
    last = sum
  end }
  local ok, err = pcall(model.fit, model, o)
  for i, list in ipairs(out) do out[i] = table.concat(list, " ") end
  return table.concat(out, " | "), not ok and err or nil, model
end

describe("fit with steps_per_epoch", function()
  it("goes on from epoch to epoch and begins again where the data end", function()
    assert.equal("1 2 | 3 4 | 5 1", (seen_by { numbers(5), epochs = 3, steps_per_epoch = 2 }))
    assert.equal("1 2 3 1 2 3 1 | 2 3 1 2 3 1 2", (seen_by { numbers(3), epochs = 2, steps_per_epoch = 7 }))
    assert.equal("1 2 3 | 1 2 3", (seen_by { numbers(3), epochs = 2 }))
    assert.equal("1 2 | 3 1 | 2 3", (seen_by { numbers(3):repeated(), epochs = 3, steps_per_epoch = 2 }))
    assert.equal("1 | 2", (seen_by { column(1, 2, 3), nn.zeros(3, 1), epochs = 2, steps_per_epoch = 1, batch_size = 1, shuffle = false }))
  end)

  it("says so of data sets that never end, or are empty", function()
    local model = still()
    local endless = numbers(3):repeated()
    assert.equal("fit: the data set never ends; say how many batches are to be used: steps_per_epoch =", message(model.fit, model, { endless }))
    assert.truthy(message(model.fit, model, { numbers(2), validation = endless, verbose = 0 }):find("validation_steps =", 1, true))
    assert.truthy(message(model.evaluate, model, endless):find("steps =", 1, true))
    assert.truthy(message(model.predict, model, endless):find("steps =", 1, true))
    assert.truthy(message(model.fit, model, { numbers(2):take(0), steps_per_epoch = 2, verbose = 0 }):find("the data set is empty", 1, true))
  end)

  it("goes on exactly from a file", function()
    local folder = program.folder()
    local function start()
      nn.seed(5)
      return still { optimizer = nn.optim.SGD { lr = 0.01, momentum = 0.5 } }, numbers(5, true)
    end
    for _, cut in ipairs { 1, 2, 3 } do
      local whole, ds = start()
      local want = whole:fit { ds, epochs = 5, steps_per_epoch = 3, verbose = 0 }
      local first, ds1 = start()
      first:fit { ds1, epochs = cut, steps_per_epoch = 3, verbose = 0, save = folder .. "/a.h5" }
      local again, ds2 = start()
      local got = again:fit { ds2, epochs = 5, steps_per_epoch = 3, verbose = 0, resume = folder .. "/a.h5" }
      assert.same(want.loss, got.loss)
      assert.equal(whole[2].kernel:item(), again[2].kernel:item())
    end
    program.remove(folder)
  end)
end)

describe("compile{ jit = true }", function()
  local function run(jit, given)
    nn.seed(9)
    local model = nn.Sequential { nn.Input { 6 }, nn.Dense { 8, activation = "relu", kernel_regularizer = "l2" },
      nn.ActivityRegularization { l2 = 0.1 }, nn.BatchNorm {}, nn.Dropout { 0.3 }, nn.Dense { 3 } }
    model:compile { optimizer = given.optimizer and given.optimizer() or "adam", loss = "sparse_categorical_crossentropy", from_logits = true,
      metrics = "accuracy", weighted_metrics = "accuracy", jit = jit }
    local ds = nn.data.from_tensors(nn.randn(40, 6), nn.randint(1, 4, { 40 }), nn.rand(40)):batch(8)
    local history = model:fit { ds, epochs = 4, verbose = 0, class_weight = { 1, 2, 0.5 }, callbacks = given.callbacks and given.callbacks(),
      validation = ds }
    local list = {}
    for i, w in ipairs(model:weights()) do list[i] = w.tensor:totable() end
    return { history.loss, history.accuracy, history.weighted_accuracy, history.val_loss, list }, model.compiled.step
  end

  it("gives the same bits, replayed", function()
    local want = run(false, {})
    local got, step = run(true, {})
    assert.same(want, got)
    assert.is_true(step:replays() >= 15, tostring(step))
  end)

  it("heeds schedules, and callbacks that look at layers", function()
    local text
    local given = {
      optimizer = function() return nn.optim.SGD { lr = nn.schedules.cosine { 0.1, 20 }, momentum = 0.9 } end,
      callbacks = function() return { nn.callbacks.Health { every = 2, write = function(s) text = s end } } end,
    }
    local want = run(false, given)
    local told = text
    local got, step = run(true, given)
    assert.same(want, got)
    assert.equal(told, text)
    assert.is_true(step:replays() >= 4, tostring(step))
  end)
end)

describe("validation", function()
  local x, y = column(1, 2, 3, 4, 5), nn.zeros(5, 1)

  it("splits the last samples off, before shuffling", function()
    local history = still():fit { x, y, validation_split = 0.4, verbose = 0, epochs = 2 }
    close({ (1 + 4 + 9) / 3, (16 + 25) / 2 }, { history.loss[2], history.val_loss[2] }, 1e-6)
    local weighted = still():fit { x, y, nn.tensor { 1, 1, 1, 2, 0 }, validation_split = 0.4, verbose = 0 }
    close(32 / 2, weighted.val_loss[1], 1e-6)
    local model = still()
    assert.truthy(message(model.fit, model, { numbers(4), validation_split = 0.5 }):find("needs tensors x and y", 1, true))
    assert.truthy(message(model.fit, model, { x, y, validation_split = 0.9 }):find("leaves one part of 5 samples empty", 1, true))
    assert.truthy(message(model.fit, model, { x, y, validation_split = 1 }):find("must be above 0 and below 1", 1, true))
  end)

  it("takes so many batches, after so many epochs", function()
    local history = still():fit { x, y, validation_data = numbers(4), validation_steps = 2, validation_freq = 2, epochs = 4, verbose = 0 }
    assert.is_nil(history.val_loss[1])
    assert.is_nil(history.val_loss[3])
    close({ 2.5, 2.5 }, { history.val_loss[2], history.val_loss[4] }, 1e-6)
    assert.equal(2, history:best "val_loss")
    history = still():fit { x, y, validation = { x, y }, validation_freq = { 1, 3 }, epochs = 3, verbose = 0 }
    assert.same({ true, false, true }, { history.val_loss[1] ~= nil, history.val_loss[2] ~= nil, history.val_loss[3] ~= nil })
  end)

  it("leaves callbacks in peace between", function()
    local folder = program.folder()
    local stop = nn.callbacks.EarlyStopping { patience = 2 }
    local history = still():fit { x, y, validation = { x, y }, validation_freq = 2, epochs = 20, verbose = 0,
      callbacks = { nn.callbacks.ReduceLROnPlateau {}, stop, nn.callbacks.Checkpoint { folder .. "/m.h5", best = "val_loss" },
        nn.callbacks.CSVLogger { folder .. "/log.csv" } } }
    assert.equal(6, #history.epoch) -- best at 2, no better at 4 and 6
    local log = program.read(folder .. "/log.csv")
    assert.equal("epoch,loss,val_loss\n1,11,\n2,11,11\n", log:match "^(.-\n.-\n.-\n)")
    local again = assert(nn.load(folder .. "/m.h5")).history -- saved after epoch 2: a list with a hole
    assert.same({ nil, 11 }, { again.val_loss[1], again.val_loss[2] })
    program.remove(folder)
  end)
end)

describe("evaluate and predict with options", function()
  local x, y = column(1, 2, 3, 4), nn.zeros(4, 1)

  it("take so many batches", function()
    close((1 + 4) / 2, (still():evaluate { numbers(4), steps = 2 }), 1e-6)
    close((1 + 4 + 9 + 16) / 4, (still():evaluate { x = x, y = y, batch_size = 3 }), 1e-6)
    close({ 1, 2, 3 }, still():predict { numbers(9), steps = 3 })
    close({ 1, 2, 3, 4 }, still():predict { x, batch_size = 3 })
    close({ 1, 2, 3, 4 }, still():predict_on_batch(x))
    local model = still()
    assert.truthy(message(model.evaluate, model, { x, y, step = 3 }):find('unknown option "step"; did you mean "steps"?', 1, true))
    assert.truthy(message(model.train_on_batch, model, x):find("needs targets", 1, true))
  end)

  it("call back", function()
    local seen = {}
    local recorder = setmetatable({}, { __index = function(_, event)
      if event:find "^on_" then return function(_, _, batch) seen[#seen + 1] = event .. (batch or "") end end
    end })
    still():predict { x, batch_size = 2, callbacks = { recorder } }
    assert.same({ "on_predict_begin", "on_predict_batch_begin1", "on_predict_batch_end1", "on_predict_batch_begin2", "on_predict_batch_end2",
      "on_predict_end" }, seen)
    seen = {}
    still():evaluate { x, y, callbacks = { recorder } }
    assert.same({ "on_test_begin", "on_test_batch_begin1", "on_test_batch_end1", "on_test_end" }, seen)
  end)

  it("mc_dropout is the mean of passes with dropout, and of nothing else that training does", function()
    nn.seed(3)
    local model = nn.Sequential { nn.Input { 4 }, nn.BatchNorm {}, nn.Dropout { 0.5 }, nn.Dense { 1, init = "ones" } }
    local ones = nn.ones(8, 4)
    local one, many, plain = model:predict { ones, mc_dropout = 1 }, model:predict { ones, mc_dropout = 400 }, model:predict(ones)
    assert.is_true((one - plain):abs():amax():item() > 0.5)
    close(plain, many, 0.15)
    assert.same({ 0, 0, 0, 0 }, model[2].moving_mean:totable())
    assert.same(plain:totable(), model:predict(ones):totable())
  end)
end)

describe("raw labels", function()
  local x = nn.tensor({ { 5, 0, 0 }, { 0, 0, 5 }, { 0, 5, 0 } }, { dtype = "f32" })
  local function trained()
    local model = nn.Sequential { nn.Input { 3 }, nn.Dense { 3, use_bias = false, init = "identity" } }
    model:compile { optimizer = nn.optim.SGD { lr = 0 }, loss = "sparse_categorical_crossentropy", from_logits = true }
    local ds = nn.data.from_tensors(x, nn.tensor { 1, 3, 2 }):batch(3)
    ds.labels = nn.data.LabelEncoder { values = { "ant", 7, true } }
    model:fit { ds, verbose = 0 }
    return model
  end

  it("come back from predictions", function()
    local model = trained()
    assert.same({ "ant", true, 7 }, model:predict(x):labels())
    assert.same({ "ant", true, 7 }, model:predict_on_batch(x):labels())
    assert.same({ "c", "a" }, nn.tensor { { 0, 1, 2.5 }, { 1, 0, 0 } }:labels { "a", "b", "c" })
    assert.same({ { "b" }, { "a" } }, nn.tensor { { 2 }, { 1 } }:labels { "a", "b" })
    assert.same({ "no", "yes" }, nn.tensor { { 0.2 }, { 0.7 } }:labels { "no", "yes" })
    assert.truthy(message(x.labels, x):find("no label encoder is known", 1, true))
    assert.truthy(message(x.labels, x, { "a", "b" }):find("predictions with 3 classes, but 2 labels", 1, true))
  end)

  it("are in files", function()
    local folder = program.folder()
    local model, file = trained(), folder .. "/m.h5"
    assert(model:save(file))
    assert.same({ "ant", true, 7 }, assert(nn.load(file)):predict(x):labels())
    local same = nn.Sequential { nn.Input { 3 }, nn.Dense { 3, use_bias = false } }
    assert(same:load_weights(file))
    assert.same({ "ant", true, 7 }, same:predict(x):labels())
    program.remove(folder)
  end)
end)

describe("the history", function()
  local function history()
    local h = require("nnlua.training").History {}
    for i, v in ipairs { 4, 2, 1, 1.5 } do h:add(i, { loss = v, val_loss = v + 1, accuracy = i / 4, matrix = { {} } }) end
    return h
  end

  it("knows the best epoch", function()
    local h = history()
    assert.same({ 3, 2 }, { h:best() })
    assert.same({ 3, 1 }, { h:best "loss" })
    assert.same({ 4, 1 }, { h:best "accuracy" })
  end)

  it("draws charts as text, in the width given", function()
    local h = history()
    local text = h:plot_text { width = 40, height = 4 }
    assert.truthy(text:find "^accuracy\n")
    assert.truthy(text:find("\n\nloss\n", 1, true))
    assert.truthy(text:find("── loss   ·· val_loss", 1, true))
    assert.is_nil(text:find("matrix\n", 1, true))
    local lines = 0
    for line in (text .. "\n"):gmatch "(.-)\n" do
      lines = lines + 1
      assert.is_true(utf8.len(line) <= 40, line)
    end
    assert.equal(2 * (1 + 4 + 2) + 1, lines)
    assert.truthy(h:plot_text { "loss", "accuracy" }:find "^loss, accuracy\n")
    assert.truthy(message(h.plot_text, h, "los"):find("measured: accuracy, loss", 1, true))
    local out, old = {}, io.stdout
    io.stdout = { write = function(_, ...) out[#out + 1] = table.concat { ... } end } -- luacheck: ignore
    h:plot { "loss", width = 40 }
    io.stdout = old -- luacheck: ignore
    assert.equal(h:plot_text { "loss", width = 40 } .. "\n", table.concat(out))
  end)

  it("draws them into a file", function()
    local folder = program.folder()
    local h = history()
    assert(h:draw(folder .. "/h.svg"))
    local svg = program.read(folder .. "/h.svg")
    assert.equal(3, select(2, svg:gsub("<polyline", "")))
    assert.truthy(svg:find "^<svg [^\n]*height=\"480\"")
    assert.truthy(svg:find ">val_loss</text>")
    -- loss 4, 2, 1, 1.5 of 1 .. 5: the first point stands a quarter below the top, the third at the bottom
    local points = {}
    for y in svg:match('loss</text>.-<polyline points="([^"]*)"'):gmatch ",([%d.]+)" do points[#points + 1] = tonumber(y) end
    local top, height = 240 + 30, 240 - 30 - 34
    close({ top + height / 4, top + height * 3 / 4, top + height, top + height * 7 / 8 }, points, 1e-3)
    local ok, why = h:draw(folder .. "/none/h.svg")
    assert.is_nil(ok)
    assert.is_string(why)
    assert.truthy(message(h.draw, h, "h.png"):find("ends in .svg", 1, true))
    program.remove(folder)
  end)
end)

describe("a chart", function()
  -- Which dots are set, by column of dots: row numbers from the top.
  local function dots(text, width, height)
    local rows, columns = {}, {}
    for line in (text .. "\n"):gmatch "(.-)\n" do rows[#rows + 1] = line end
    for r = 1, height do
      local at = 0
      for _, code in utf8.codes(rows[r]:sub(3)) do
        local bits = code >= 0x2800 and code - 0x2800 or 0
        for half, masks in ipairs { { 1, 2, 4, 64 }, { 8, 16, 32, 128 } } do
          for k, mask in ipairs(masks) do
            if bits & mask ~= 0 then columns[at * 2 + half] = (r - 1) * 4 + k end
          end
        end
        at = at + 1
      end
    end
    assert.is_true(#columns <= 2 * width)
    return columns
  end

  it("puts a straight line on the diagonal", function()
    local values = {}
    for i = 1, 16 do values[i] = 17 - i end
    local text = plot.text({ series = { { name = "v", values = values } } }, 2 + 8 + 1, 4)
    local want = {}
    for i = 1, 16 do want[i] = i end
    assert.same(want, dots((text:gsub("16 ", " 9 ", 1):gsub("\n +", function(s) return "\n" .. s:sub(3) end):gsub("^ ", "")), 8, 4))
  end)

  it("has a logarithmic scale, takes holes, NaN and nothing at all", function()
    local text = plot.text({ log = true, series = { { name = "v", values = { 1000, 0 / 0, 10, 1 } } } }, 30, 3)
    assert.truthy(text:find "^1000 .*\n.*\n   1 ")
    assert.equal("empty\nnothing to draw", plot.text({ title = "empty", series = { { name = "v", values = { 0 / 0 } } } }, 30, 3))
    assert.truthy(plot.text({ series = { { name = "v", values = { 2 } } } }, 30, 1):find "^2 ⡀")
  end)
end)
