-- Going on after kill -9, full disks and from damaged files, to the bit: lua/nnlua/training/fit.lua, callbacks/files.lua, checkpoint.lua.
local nn = require "nnlua"
local checkpoint = require "nnlua.checkpoint"
local program = dofile "tests/program.lua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local message = support.message
local cb = nn.callbacks

local folder
before_each(function() folder = program.folder() end)
after_each(function() program.remove(folder) end)

-- Dropout, shuffling, batch statistics, Adam: everything that has a state. 45 samples in batches of 8: the last one is smaller.
local source = [[
local nn = require "nnlua"
local function start()
  nn.seed(3)
  local x = nn.randn(45, 6)
  local y = x:sum(2):gt(0):long() + 1
  local model = nn.Sequential { nn.Input { 6 }, nn.Dense { 12, activation = "relu" }, nn.BatchNorm {}, nn.Dropout { 0.3 }, nn.Dense { 2 } }
  model:compile { optimizer = nn.optim.Adam { lr = 0.01 }, loss = "sparse_categorical_crossentropy", from_logits = true, metrics = { "accuracy" } }
  return model, nn.data.from_tensors(x, y):shuffle(45):batch(8)
end
local function shown(model, history)
  local out = {}
  for _, w in ipairs(model:weights()) do
    for _, v in ipairs(w.tensor:reshape { -1 }:totable()) do out[#out + 1] = ("%a"):format(v) end
  end
  for _, s in ipairs(model.compiled.optimizer:state().slots) do out[#out + 1] = ("%a"):format(s.tensor:to "f64":sum():item()) end
  for _, v in ipairs(history.loss) do out[#out + 1] = ("%a"):format(v) end
  return table.concat(out, " ")
end
]]
local start, shown = assert(load(source .. "return start, shown"))()
local BATCHES = 6 -- of an epoch

describe("resume", function()
  it("goes on from every batch of every epoch", function()
    local whole, ds = start()
    local want = shown(whole, whole:fit { ds, epochs = 3, verbose = 0,
      callbacks = { cb.Checkpoint { folder .. "/m-{step:02d}.h5", batches = 1 } } })
    local plain, plain_ds = start()
    assert.equal(want, shown(plain, plain:fit { plain_ds, epochs = 3, verbose = 0 })) -- saving changes nothing
    local files = checkpoint.files_of(folder)
    assert.equal(3 * BATCHES, #files)
    for step, file in ipairs(files) do
      local model, again = start()
      assert.equal(want, shown(model, model:fit { again, epochs = 3, verbose = 0, resume = file }), "from step " .. step)
    end
  end)

  it("goes on from the middle of an epoch of so many steps", function()
    local o = { epochs = 4, steps_per_epoch = 4, verbose = 0 } -- epochs and passes end apart
    local function run(more)
      local model, ds = start()
      local given = { ds:repeated() }
      for key, value in pairs(o) do given[key] = value end
      for key, value in pairs(more) do given[key] = value end
      return shown(model, model:fit(given))
    end
    local want = run { callbacks = { cb.Checkpoint { folder .. "/m-{step:02d}.h5", batches = 1 } } }
    for step, file in ipairs(checkpoint.files_of(folder)) do assert.equal(want, run { resume = file }, "from step " .. step) end
  end)

  it("chains: each run makes some steps and is cut off", function()
    local whole, ds = start()
    local want = shown(whole, whole:fit { ds, epochs = 4, verbose = 0 })
    local file = folder .. "/run.h5"
    local cuts = 0
    repeat
      local model, again = start()
      local left = 5
      local cut = { on_batch_saved = function()
        left = left - 1
        if left == 0 then error("power cut", 0) end
      end, batches = 1 }
      local ok, history = pcall(model.fit, model, { again, epochs = 4, verbose = 0, callbacks = { cb.Resume { file, batches = 2 }, cut } })
      if ok then assert.equal(want, shown(model, history)) else cuts = cuts + 1 end
    until ok or cuts > 20
    assert.is_true(cuts >= 4 and cuts < 20, cuts)
  end)

  it("after kill -9 at random moments equals the run that nobody stopped", function()
    if not program.path then return pending "needs nnlua" end
    local kills, seed, epochs = support.cases(200, true), support.seed(4711), 2
    local whole, ds = start()
    local want = shown(whole, whole:fit { ds, epochs = epochs, verbose = 0 })
    local n = dofile "tests/killed_runs.lua".sweep { folder = folder, source = source, epochs = epochs, want = want, kills = kills,
      random = support.random(seed) }
    print(("kill -9 of training: seed %d, %d kills, each resumed to the same bits: %d from a file, %d in the middle of an epoch; %d runs ended, "
      .. "%d temporaries"):format(seed, n.kills, n.resumed, n.inside, n.finished, n.temporaries))
    assert.equal(kills, n.kills)
    assert.is_true(n.inside > kills / 4 and n.resumed < kills, "the kills came at no interesting moments")
  end)

  -- Room ends at each step of a training, by a limit to the size of files and on a file system that is full.
  local full = [[
    local folder, limited = %q, %s
    local epochs, levels = 2, limited and 2 or 4 -- a disk takes its time
    local function output(command)
      local pipe <close> = assert(io.popen(command))
      return pipe:read "a"
    end
    local function limit(bytes)
      if limited then
        assert(os.execute(("prlimit --pid $PPID --fsize=%%s:"):format(bytes or "unlimited")))
      elseif bytes then
        local room, block = output("stat -f -c '%%a %%S' " .. folder):match "(%%d+) (%%d+)"
        assert(os.execute(("head -c %%d /dev/zero >%%s/filler"):format((room - bytes // block) * block, folder)))
      else
        assert(os.remove(folder .. "/filler"))
      end
    end
    local model, ds = start()
    local first
    local saved = nn.callbacks.Checkpoint { folder .. "/first.h5", batches = 1 }
    local history = model:fit { ds, epochs = epochs, verbose = 0, callbacks = { saved, { on_batch_saved = function()
      first = first or assert(io.open(folder .. "/first.h5")):seek "end"
    end, batches = 1 } } }
    os.remove(folder .. "/first.h5")
    print(dofile "tests/killed_runs.lua".full_disk { folder = folder, steps = epochs * %d, levels = levels, epochs = epochs, bytes = first,
      limit = limit, start = start, shown = shown, want = shown(model, history) })
    os.exit(5, true)]]
  local function no_room(how, limited, before)
    if not program.path then return pending "needs nnlua" end
    program.write(folder .. "/full.lua", source .. full:format(folder .. "/disk", limited, BATCHES))
    assert(nn.sys.mkdir_p(folder .. "/disk"))
    local pipe = io.popen(("%s %s %s/full.lua 2>&1"):format(before, program.quote(program.path), folder))
    local out = pipe:read "a"
    local _, _, code = pipe:close()
    assert.same({ ("%d\n"):format(2 * BATCHES * (limited == "true" and 2 or 4)), 5 }, { out, code })
    print(("%s while training: %d saves without room, each resumed to the same bits"):format(how, out))
  end
  it("after a save that a limit to the size of files ended equals that run", function()
    if not os.execute "command -v prlimit >/dev/null" then return pending "there is no prlimit" end
    no_room("file-size limit", "true", "")
  end)
  it("after a save that a full disk ended equals that run", function()
    for _, unshare in ipairs { "unshare -m", "unshare -Urm" } do -- the second: with the rights of a namespace of its own
      local mounted = ("%s sh -c 'mount -t tmpfs -o size=2m none %s/disk && exec \"$@\"' sh"):format(unshare, folder)
      assert(nn.sys.mkdir_p(folder .. "/disk"))
      if os.execute(mounted .. " true 2>/dev/null") then return no_room("full disk", "false", mounted) end
    end
    pending "no right to mount a tmpfs"
  end)

  it("walks back over files that are damaged, and says so", function()
    local whole, ds = start()
    local want = shown(whole, whole:fit { ds, epochs = 3, verbose = 0,
      callbacks = { cb.Checkpoint { folder .. "/m-{step:02d}.h5", batches = 2 } } })
    local files = checkpoint.files_of(folder)
    for i = #files - 2, #files do
      local text = program.read(files[i])
      program.write(files[i], i % 2 == 0 and text:sub(1, #text // 2) or text:sub(1, 5000) .. "?" .. text:sub(5002))
    end
    local said, old = {}, _G.warn
    _G.warn = function(...) said[#said + 1] = table.concat { ... } end -- luacheck: globals warn
    local model, again = start()
    local ok, history = pcall(model.fit, model, { again, epochs = 3, verbose = 0, resume = folder })
    _G.warn = old
    assert.is_true(ok, history)
    assert.equal(want, shown(model, history))
    assert.equal(3, #said)
    for i = 1, 3 do assert.truthy(said[i]:find("passed over " .. files[#files - 3 + i], 1, true), said[i]) end
    for _, file in ipairs(files) do os.remove(file) end
    local other, ds2 = start()
    assert.truthy(message(other.fit, other, { ds2, resume = folder, verbose = 0 }):find("no checkpoint to go on from", 1, true))
  end)
end)

describe("a run that diverges", function()
  local function one(lr)
    local model = nn.Sequential { nn.Input { 1 }, nn.Dense { 1, use_bias = false, init = "ones" } }
    model:compile { optimizer = nn.optim.SGD { lr = lr }, loss = "mse" }
    return model
  end
  local x, y = nn.ones(1, 1), nn.zeros(1, 1)
  local function quietly(f)
    local said, old = {}, _G.warn
    _G.warn = function(...) said[#said + 1] = table.concat { ... } end -- luacheck: globals warn
    local ok, why = pcall(f)
    _G.warn = old
    assert.is_true(ok, why)
    return said
  end
  local function score(values) return function(_, epoch, logs) logs.score = values[epoch] end end

  it("never loses the last files with finite figures", function()
    local nan = 0 / 0
    quietly(function()
      one(0.1):fit { x, y, epochs = 6, verbose = 0, callbacks = { score { 1, 2, nan, nan, nan, nan },
        cb.Checkpoint { folder .. "/m-{epoch}.h5", keep = 2 } } }
    end)
    assert.same({ folder .. "/m-2.h5", folder .. "/m-6.h5" }, checkpoint.files_of(folder))
    local said = quietly(function()
      one(0.1):fit { x, y, epochs = 3, verbose = 0, callbacks = { score { 1, 2, nan }, cb.Checkpoint { folder .. "/last.h5" } } }
    end)
    assert.equal(2, assert(nn.load(folder .. "/last.h5")).progress.epoch)
    assert.truthy(said[1]:find("last.h5 stays as it was", 1, true))
    quietly(function()
      one(0.1):fit { x, y, epochs = 4, verbose = 0, callbacks = { score { nan, 3, nan, 1 },
        cb.Checkpoint { folder .. "/best.h5", best = "score", mode = "max" } } }
    end)
    assert.equal(2, assert(nn.load(folder .. "/best.h5")).progress.epoch)
  end)

  it("keeps the file of fit{ save = } and the weights from before the step", function()
    local model, file = one(1e30), folder .. "/run.h5"
    local said = quietly(function() model:fit { x, y, epochs = 5, verbose = 0, save = file, callbacks = { cb.TerminateOnNaN {} } } end)
    assert.equal(1, assert(nn.load(file)).progress.epoch)
    assert.truthy(said[1]:find("the loss is infinite at batch 1 of epoch 2", 1, true), said[1])
    local w = model[2].kernel:item()
    assert.is_true(w == w and math.abs(w) < math.huge and w ~= 1)
  end)

  it("names the layer, or the weight, where it began", function()
    local model = nn.Sequential { nn.Input { 2 }, nn.Dense { 3, name = "first" }, nn.Dense { 1, name = "second" } }
    model:compile { optimizer = nn.optim.SGD { lr = 0.1 }, loss = "mse" }
    local before
    local spoil = { on_batch_begin = function(_, m, batch)
      if batch ~= 2 then return end
      local kernel = m:layer("second").kernel
      kernel:assign(kernel:detach() * (0 / 0))
      before = m:layer("first").kernel:totable()
    end }
    local said = quietly(function()
      model:fit { nn.ones(6, 2), nn.ones(6, 1), epochs = 1, batch_size = 2, shuffle = false, verbose = 0,
        callbacks = { cb.TerminateOnNaN {}, spoil } }
    end)
    assert.truthy(said[1]:find("the loss is nan at batch 2 of epoch 1 (in layer second)", 1, true), said[1])
    assert.same(before, model:layer("first").kernel:totable())
  end)
end)

describe("a folder that cannot be listed", function()
  it("is an error that names it, not a folder without checkpoints", function()
    local sys = require "nnlua.core".sys
    local list = sys.list_folder
    finally(function() sys.list_folder = list end)
    sys.list_folder = function(path) return nil, "cannot read folder " .. path .. ": Input/output error" end
    local files, why = checkpoint.files_of(folder)
    assert.is_nil(files)
    assert.equal("cannot read folder " .. folder .. ": Input/output error", why)
    local model = nn.Sequential { nn.Input { 2 }, nn.Dense { 1 } }
    model:compile { optimizer = "sgd", loss = "mse" }
    assert.same({ nil, why }, { checkpoint.restore_newest(model, folder) })
    local said = message(model.fit, model, { nn.ones(4, 2), nn.ones(4, 1), epochs = 1, verbose = 0, callbacks = { cb.Resume { folder } } })
    assert.truthy(said:find(why, 1, true), said)
    assert.is_nil(rawget(model, "progress"))
  end)
end)
