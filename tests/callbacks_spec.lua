-- lua/nnlua/callbacks.lua, callbacks/control.lua and files.lua: when they act, what they write, going on from files.
local nn = require "nnlua"
local core = require "nnlua.core"
local program = dofile "tests/program.lua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local close, message = support.close, support.message
local cb = nn.callbacks

local folder
before_each(function() folder = program.folder() end)
after_each(function() program.remove(folder) end)

-- A model with one weight w that learns y = 0 from x = 1: its loss is w^2 and SGD{lr} makes w * (1 - 2 lr) of w.
local function one(lr, given)
  given = given or {}
  given.lr = lr
  local model = nn.Sequential { nn.Input { 1 }, nn.Dense { 1, use_bias = false, init = "ones" } }
  model:compile { optimizer = nn.optim.SGD(given), loss = "mse" }
  return model
end
local x, y = nn.ones(1, 1), nn.zeros(1, 1)
local function fit(model, epochs, callbacks, more)
  local o = { x, y, epochs = epochs, callbacks = callbacks, verbose = 0 }
  for key, value in pairs(more or {}) do o[key] = value end
  return model:fit(o)
end
local function weight(model) return model[2].kernel:item() end

-- Sets the figure `name` of each epoch, before the callbacks that follow.
local function script(name, values) return function(_, epoch, logs) logs[name] = values[epoch] end end

describe("fit", function()
  it("calls callbacks in the order that callbacks.lua says", function()
    local seen = {}
    local recorder = setmetatable({}, { __index = function(_, event)
      if event:find "^on_" then return function() seen[#seen + 1] = event end end
    end })
    fit(one(0.1), 1, { recorder }, { validation = { x, y } })
    assert.same({ "on_fit", "on_train_begin", "on_epoch_begin", "on_batch_begin", "on_batch_end", "on_test_begin", "on_test_batch_begin",
      "on_test_batch_end", "on_test_end", "on_epoch_end", "on_epoch_saved", "on_train_end" }, seen)
  end)
end)

describe("EarlyStopping", function()
  it("stops after patience epochs without a better figure", function()
    local stop = cb.EarlyStopping { "score", patience = 2 }
    local history = fit(one(0.1), 9, { script("score", { 1, 2, 1.9, 1.8, 5 }), stop })
    assert.equal(4, #history.epoch)
    assert.same({ 2, 2 }, { stop.best, stop.best_epoch })
  end)
  it("takes losses as better when smaller, needs min_delta, waits for start_from_epoch", function()
    assert.equal(4, #fit(one(0.1), 9, { script("val_loss", { 5, 4, 3.95, 3.92, 3 }), cb.EarlyStopping { patience = 2, min_delta = 0.1 } }).epoch)
    assert.equal(5, #fit(one(0.1), 9, { script("val_loss", { 1, 2, 9, 8, 8 }), cb.EarlyStopping { patience = 1, start_from_epoch = 2 } }).epoch)
    assert.equal(3, #fit(one(0.1), 9, { script("s", { 1, 0, 5 }), cb.EarlyStopping { "s", mode = "min", patience = 1 } }).epoch)
    assert.equal(2, #fit(one(0.1), 9, { script("s", { 1, 2, 3, 4 }), cb.EarlyStopping { "s", baseline = 10, patience = 2 } }).epoch)
  end)
  it("gives back the best weights, or leaves the last", function()
    for _, restore in ipairs { true, false } do
      local model = one(0.25) -- halves the weight
      fit(model, 4, { script("val_loss", { 2, 1, 3, 4 }), cb.EarlyStopping { patience = 9, restore_best_weights = restore } })
      assert.equal(restore and 0.25 or 0.0625, weight(model))
    end
  end)
  it("says which figures there are", function()
    assert.equal('EarlyStopping: there is no figure "val_loss" (measured: loss); fit needs validation = ... for those with val_',
      message(fit, one(0.1), 1, { cb.EarlyStopping {} }))
    assert.truthy(message(cb.EarlyStopping, { patients = 3 }):find('did you mean "patience"?', 1, true))
  end)
end)

describe("the learning rate", function()
  it("falls on a plateau, with cooldown, to min_lr", function()
    local rates = {}
    local model = one(0.4)
    fit(model, 8, { script("val_loss", { 1, 1, 1, 1, 1, 1, 1, 1 }),
      cb.ReduceLROnPlateau { factor = 0.5, patience = 2, cooldown = 1, min_lr = 0.15 },
      function(m, epoch) rates[epoch] = m.compiled.optimizer.lr end })
    assert.same({ 0.4, 0.4, 0.2, 0.2, 0.15, 0.15, 0.15, 0.15 }, rates)
  end)
  it("is set per epoch", function()
    local model, rates = one(1), {}
    local note = function(m, epoch) rates[epoch] = m.compiled.optimizer.lr end
    fit(model, 3, { cb.LRSchedule { function(epoch, lr) return epoch == 1 and lr or lr / 2 end }, note })
    assert.same({ 1, 0.5, 0.25 }, rates)
    fit(model, 3, { cb.LRSchedule { nn.schedules.step { 1, 1 } }, note })
    close({ 1, 0.1, 0.01 }, rates, 1e-12)
    assert.truthy(message(fit, model, 1, { cb.LRSchedule { function() end } }):find("must return a number", 1, true))
    assert.truthy(message(fit, one(nn.schedules.step { 1, 1 }), 1, { cb.ReduceLROnPlateau {} }):find("is a schedule", 1, true))
  end)
end)

describe("other callbacks", function()
  it("end training at a loss that is no number", function()
    local heard
    local stop = cb.TerminateOnNaN {}
    local warned, old = {}, _G.warn
    _G.warn = function(...) warned[#warned + 1] = table.concat { ... } end
    local history = fit(one(1e30), 9, { stop, cb.Lambda { on_train_end = function() heard = true end } })
    _G.warn = old
    assert.is_true(#history.epoch < 9 and heard and stop.batch == 1)
    assert.truthy(warned[1]:find("at batch 1 of epoch 2", 1, true))
    assert.truthy(message(fit, one(1e30), 9, {}):find("the loss of epoch", 1, true))
  end)

  it("validate with averaged weights", function()
    local model = one(0.25, { use_ema = true, ema_momentum = 0.5 })
    local history = fit(model, 2, { cb.SwapEMA {} }, { validation = { x, y } })
    -- w: 0.5, 0.25; averages: 0.5, 0.375
    close({ 0.25, 0.375 ^ 2 }, history.val_loss, 1e-6)
    assert.equal(0.25, weight(model))
    fit(model, 1, { cb.SwapEMA { at_end = true } }, { validation = { x, y } })
    close({ 0.5 * 0.375 + 0.5 * 0.125 }, { weight(model) }, 1e-6)
    assert.truthy(message(fit, one(0.1), 1, { cb.SwapEMA {} }):find("use_ema = true", 1, true))
  end)

  it("write lines while an epoch runs", function()
    local lines = {}
    one(0.1):fit { nn.ones(6, 1), nn.zeros(6, 1), epochs = 1, batch_size = 1, verbose = 0,
      callbacks = { cb.Progress { 3, write = function(line) lines[#lines + 1] = line end } } }
    assert.equal(2, #lines)
    assert.truthy(lines[2]:find "^epoch 1 batch 6  loss 0%.%d+\n$")
  end)

  it("keep one history of several fits", function()
    local all, model = cb.History {}, one(0.25)
    fit(model, 2, { all })
    fit(model, 1, { all })
    assert.same({ { 1, 2, 3 }, { 1, 0.25, 0.0625 } }, { all.history.epoch, all.history.loss })
  end)

  it("take functions by event", function()
    assert.truthy(message(cb.Lambda, { on_epoch = print }):find('unknown option "on_epoch"', 1, true))
  end)
end)

describe("Checkpoint", function()
  local function files()
    local list, pipe = {}, assert(io.popen("ls " .. folder))
    for name in pipe:lines() do list[#list + 1] = name end
    pipe:close()
    return list
  end
  it("writes every so many epochs, and keeps the newest", function()
    fit(one(0.1), 6, { cb.Checkpoint { folder .. "/m-{epoch:02d}.h5", every = 2, keep = 2 } })
    assert.same({ "m-04.h5", "m-06.h5" }, files())
    local model = assert(nn.load(folder .. "/m-04.h5"))
    assert.equal(4, model.progress.epoch)
  end)
  it("writes the best only", function()
    local model = one(0.25)
    fit(model, 3, { script("val_loss", { 3, 1, 2 }), cb.Checkpoint { folder .. "/best.h5", best = "val_loss" } })
    assert.equal(0.25, assert(nn.load(folder .. "/best.h5"))[2].kernel:item())
    fit(one(0.25), 1, { cb.Checkpoint { folder .. "/{loss:.1f}.h5" } })
    assert.same({ "1.0.h5", "best.h5" }, files())
  end)
  it("says what cannot be", function()
    assert.truthy(message(cb.Checkpoint, { "m.h5", keep = 2 }):find("m-{epoch}.h5", 1, true))
    assert.truthy(message(fit, one(0.1), 1, { cb.Checkpoint { folder .. "/none/m.h5" } }):find("there is no folder", 1, true))
  end)
end)

describe("going on from a file", function()
  local function callbacks()
    return { script("val_loss", { 4, 3, 3, 3, 2.9, 3, 3, 3, 3 }), cb.ReduceLROnPlateau { factor = 0.5, patience = 2, min_delta = 0.5 },
      cb.EarlyStopping { patience = 4 } }
  end
  it("keeps what callbacks remember", function()
    local whole = one(0.4, { momentum = 0.5 })
    local history = fit(whole, 9, callbacks())
    for _, cut in ipairs { 2, 4, 6 } do
      local file = folder .. "/part.h5"
      fit(one(0.4, { momentum = 0.5 }), cut, callbacks(), { save = file })
      local again = one(0.4, { momentum = 0.5 })
      local rest = fit(again, 9, callbacks(), { resume = file })
      assert.same(history.loss, rest.loss)
      assert.equal(whole.compiled.optimizer.lr, again.compiled.optimizer.lr)
      assert.equal(weight(whole), weight(again))
    end
  end)

  it("is one callback for a script that may be stopped at any time", function()
    local file = folder .. "/run.h5"
    local whole = one(0.1)
    fit(whole, 5, {})
    local stop = function(_, epoch) if epoch == 3 then error("power cut", 0) end end
    assert.equal("power cut", message(fit, one(0.1), 5, { cb.Resume { file }, stop }))
    assert.equal(2, assert(nn.load(file)).progress.epoch)
    local again = one(0.1)
    assert.equal(5, #fit(again, 5, { cb.Resume { file } }).epoch)
    assert.equal(weight(whole), weight(again))
    assert.is_nil(core.sys.file_type(file))
    assert.truthy(message(fit, one(0.1), 1, { cb.Resume { file } }, { save = file }):find("save or resume of its own", 1, true))
  end)
end)

describe("logs", function()
  it("as lines with commas", function()
    local file = folder .. "/log.csv"
    fit(one(0.25), 2, { cb.CSVLogger { file } }, { validation = { x, y } })
    assert.equal("epoch,loss,val_loss\n1,1,0.25\n2,0.25,0.0625\n", program.read(file))
    fit(one(0.25), 1, { cb.CSVLogger { file, append = true } }, { validation = { x, y } })
    assert.equal("epoch,loss,val_loss\n1,1,0.25\n2,0.25,0.0625\n1,1,0.25\n", program.read(file))
    assert.truthy(message(fit, one(0.1), 1, { cb.CSVLogger { folder .. "/none/log.csv" } }):find("CSVLogger: .*none/log.csv"))
  end)
  it("as lines of JSON", function()
    local file = folder .. "/log.json"
    fit(one(0.25), 2, { script("odd", { 0 / 0, 1 }), cb.JSONLogger { file } })
    local lines = {}
    for line in io.lines(file) do lines[#lines + 1] = core.json_decode(line) end
    assert.same({ { epoch = 1, loss = 1, odd = core.json_null }, { epoch = 2, loss = 0.25, odd = 1 } }, lines)
  end)
end)
