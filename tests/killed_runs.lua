-- Training that dies at random moments and goes on, for resume_spec.lua: each resumption must end with the bits of the run that nobody stopped.
-- The text `source` of a run defines start() -> compiled model, batched data set, and shown(model, history) -> every bit of the result as text.
local nn = require "nnlua"
local checkpoint = require "nnlua.checkpoint"
local program = dofile "tests/program.lua"

local runs = {}

-- The two ways to save: new files in a folder, of which two stay, or one file in whose place each save puts the next.
local callbacks = {
  folder = [[nn.callbacks.Resume { folder }, nn.callbacks.Checkpoint { folder .. "/m-{step}.h5", batches = 1, keep = 2 }]],
  file = [[nn.callbacks.Resume { folder .. "/run.h5", batches = 1 }]],
}

-- A script that trains all epochs and then writes what it got; `out` is there whole or not at all.
local function script_of(o, way)
  return ([[%s
    local folder, out = %q, %q
    local model, ds = start()
    local history = model:fit { ds, epochs = %d, verbose = 0, callbacks = { %s } }
    local f = assert(io.open(out .. ".new", "w"))
    assert(f:write(shown(model, history)))
    assert(f:close())
    assert(os.rename(out .. ".new", out))]]):format(o.source, o.folder .. "/" .. way, o.folder .. "/" .. way .. ".out", o.epochs, callbacks[way])
end

-- What the files in the folder hold: every one must load. Gives the step of the newest (nil: no file yet) and whether an epoch was under way.
local function newest(folder)
  local step, inside
  for _, file in ipairs(checkpoint.files_of(folder)) do
    local info = select(2, assert(nn.load(file)))
    if not step or info.step > step then step, inside = info.step, info.progress.batch > 0 end
  end
  return step, inside
end

local function seconds_of(command)
  local first = nn.sys.clock()
  os.execute(command)
  return nn.sys.clock() - first
end

--- Kills o.kills runs of o.epochs at random moments (drawn by o.random, of tests/support.lua) in o.folder. After each kill the rest is trained here
--- from what the folder holds, and must give o.want; then the next run goes on from there as well. Gives what happened:
--- { kills, resumed (from a file), inside (from the middle of an epoch), finished (runs that nobody killed in time), temporaries }.
function runs.sweep(o)
  local start, shown = assert(load(o.source .. "return start, shown"))()
  local count = { kills = 0, resumed = 0, inside = 0, finished = 0, temporaries = 0 }
  local line, startup, whole = {}, {}, {}
  for way in pairs(callbacks) do
    local folder = o.folder .. "/" .. way
    assert(nn.sys.mkdir_p(folder))
    program.write(folder .. ".lua", script_of(o, way))
    line[way] = ("%s %s.lua 2>>%s.err"):format(program.quote(program.path), folder, folder)
    startup[way] = seconds_of(program.quote(program.path) .. " -e 'require \"nnlua\"'")
    whole[way] = seconds_of(line[way])
  end
  local function finish(way)
    local folder = o.folder .. "/" .. way
    assert(program.read(folder .. ".out") == o.want, "a run that was killed and went on ended with other bits")
    assert(os.remove(folder .. ".out"))
    for _, file in ipairs(checkpoint.files_of(folder)) do os.remove(file) end
    local file = folder .. "/next.h5" -- a save removes what dead processes left
    assert(nn.h5.save(file, { ["/x"] = nn.ones(1) }))
    assert(os.remove(file) and #nn.sys.list_folder(folder) == 0, "temporary files stay")
  end
  for way in pairs(callbacks) do finish(way) end -- of the run whose time was taken
  while count.kills < o.kills do
    assert(count.finished < 2 * o.kills + 10, "the kills come too late")
    local way = count.kills % 2 == 0 and "folder" or "file"
    local folder = o.folder .. "/" .. way
    local after = startup[way] + o.random.real(-0.1, 0.7) * (whole[way] - startup[way])
    os.execute(("timeout -s KILL %.4f %s"):format(math.max(after, 0.001), line[way]))
    if nn.sys.file_exists(folder .. ".out") then
      count.finished = count.finished + 1
      finish(way)
    else
      count.kills = count.kills + 1
      local step, inside = newest(folder)
      local model, ds = start()
      local history = model:fit { ds, epochs = o.epochs, verbose = 0, resume = step and folder or nil }
      assert(shown(model, history) == o.want, ("kill %d, %s: other bits after going on from step %s"):format(count.kills, way, step))
      if step then count.resumed = count.resumed + 1 end
      if inside then count.inside = count.inside + 1 end
      for _, name in ipairs(nn.sys.list_folder(folder)) do
        if name:find "^%.nnlua%-" then count.temporaries = count.temporaries + 1 end
      end
    end
  end
  for way in pairs(callbacks) do
    os.execute(line[way])
    finish(way)
    local said = program.read(o.folder .. "/" .. way .. ".err"):gsub("[^\n]*Killed[^\n]*\n?", "")
    assert(said == "", said)
  end
  return count
end

--- Full disks: in each of o.steps steps training cannot save, at each of `levels` amounts of room below the size of a file. fit must raise a message
--- with the file's name and the bytes it needs at least, the files before must all load, and once there is room the same process must go on to
--- o.want.
--- Run by a child (runs.full_disk is called in it); limit(bytes or nil) makes room short, or ends that.
function runs.full_disk(o)
  local count = 0
  for step = 1, o.steps do
    for level = 0, o.levels - 1 do
      local folder = ("%s/%d-%d"):format(o.folder, step, level)
      assert(nn.sys.mkdir_p(folder))
      local model, ds = o.start()
      local at = 0
      local full = { on_batch_begin = function()
        at = at + 1
        if at == step then o.limit(o.bytes * level // o.levels) end
      end }
      local way = count % 2 == 0 and nn.callbacks.Checkpoint { folder .. "/m-{step}.h5", batches = 1 }
        or nn.callbacks.Resume { folder .. "/run.h5", batches = 1 }
      local ok, message = pcall(model.fit, model, { ds, epochs = o.epochs, verbose = 0, callbacks = { full, way } })
      o.limit(nil)
      assert(not ok and message:find(folder, 1, true) and message:find "needs at least %d+ bytes", message)
      local files = nn.sys.list_folder(folder)
      assert(#files == (step == 1 and 0 or count % 2 == 0 and step - 1 or 1), table.concat(files, " "))
      for _, name in ipairs(files) do assert(nn.load(folder .. "/" .. name)) end
      local again, ds2 = o.start()
      local history = again:fit { ds2, epochs = o.epochs, verbose = 0, resume = #files > 0 and folder or nil }
      assert(o.shown(again, history) == o.want, ("no room at step %d: other bits after going on"):format(step))
      for _, name in ipairs(files) do os.remove(folder .. "/" .. name) end
      os.remove(folder)
      count = count + 1
    end
  end
  return count
end

return runs
