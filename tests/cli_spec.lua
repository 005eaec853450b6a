-- bindings/main.c, lua_load.c, lua_signal.c: the command line of lua, text-only loading, Ctrl-C.
local program = dofile "tests/program.lua"
local support = dofile "tests/support.lua"
local core = require "nnlua.core"
local nn = require "nnlua"
local run = program.run

if not program.path then
  describe("the program", function() it("is tested by busted --lua=nnlua", function() pending "runs under another Lua" end) end)
  return
end

describe("the command line", function()
  local folder
  setup(function() folder = program.folder() end)
  teardown(function() program.remove(folder) end)

  local function script(name, text)
    program.write(folder .. "/" .. name, text)
    return folder .. "/" .. name
  end

  it("runs -e statements in order, with -l and globals between them", function()
    script("mymod.lua", "return { n = (x or 0) + 1 }")
    local out, err, code = run({ "-e", "x = 5", "-l", "mymod", "-eprint(mymod.n)", "-l", "other=mymod", "-e", "print(other == mymod)" },
      { cwd = folder })
    assert.same({ "6\ntrue\n", "", 0 }, { out, err, code })
  end)

  it("gives a script its arguments and `arg`", function()
    local file = script("args.lua", "print(arg[0] == ..., select('#', ...), select(2, ...)) print(arg[-1], #arg, arg[2])")
    local out, _, code = run({ "-W", file, file, "b c", "" })
    assert.same({ "true\t3\tb c\t\n-W\t3\tb c\n", 0 }, { out, code })
    assert.equal("3\ta\n", (run({ "-", "a" }, { stdin = "print(#arg + 2, ...)" })))
    assert.equal("-e\t" .. program.path .. "\n", (run({ "-e", "print(arg[1], arg[0])" })))
  end)

  it("skips a first line with #! and a byte order mark, and keeps line numbers", function()
    local out = run({ script("hash.lua", "#!/usr/bin/env nnlua\nprint(debug.getinfo(1, 'l').currentline)") })
    assert.equal("2\n", out)
    assert.equal("1\n", (run({ script("bom.lua", "\xEF\xBB\xBFprint(debug.getinfo(1, 'l').currentline)") })))
    assert.equal("ok\n", (run({ script("onlyhash.lua", "# no end of line") , "-" }, {}) .. "ok\n"))
  end)

  it("runs standard input when that is no terminal", function()
    assert.same({ "7\n", "", 0 }, { run({}, { stdin = "print(3 + 4)" }) })
    assert.same({ "7\n", "", 0 }, { run({ "-" }, { stdin = "print(3 + 4)" }) })
    local _, err, code = run({}, { stdin = "print(\nlocal" })
    assert.equal(1, code)
    assert.matches("stdin:2:", err)
  end)

  it("prints its version, and its usage for an option it does not know", function()
    local out, _, code = run { "-v" }
    assert.matches("^nnlua %d+%.%d+%.%d+ %(Lua 5%.4", out)
    assert.equal(0, code)
    local _, err, bad = run { "-x" }
    assert.equal(1, bad)
    assert.matches("unrecognized option '%-x'\nusage: ", err)
    assert.matches("'%-e' needs argument", select(2, run { "-e" }))
    assert.matches("unrecognized option '%-vv'", select(2, run { "-vv" }))
    assert.matches("^usage: ", (run { "--help" }))
  end)

  it("heeds LUA_INIT and LUA_PATH, unless -E", function()
    local init = script("init.lua", "print 'file'")
    assert.equal("init\nx\n", (run({ "-e", "print 'x'" }, { env = "LUA_INIT=\"print 'init'\"" })))
    assert.equal("5.4\n", (run({ "-e", "" }, { env = "LUA_INIT='error()' LUA_INIT_5_4=\"print '5.4'\"" })))
    assert.equal("file\n", (run({ "-e", "" }, { env = "LUA_INIT=@" .. init })))
    assert.equal("x\n", (run({ "-E", "-e", "print 'x'" }, { env = "LUA_INIT=\"print 'init'\"" })))
    assert.matches("/somewhere/", (run({ "-e", "print(package.path)" }, { env = "LUA_PATH='/somewhere/?.lua'" })))
    assert.is_nil((run({ "-E", "-e", "print(package.path)" }, { env = "LUA_PATH='/somewhere/?.lua'" })):find "somewhere")
  end)

  it("turns warnings on with -W", function()
    assert.equal("Lua warning: a b\n", select(2, run { "-W", "-e", "warn('a ', 'b')" }))
    assert.equal("", select(2, run { "-e", "warn 'a'" }))
  end)

  it("reports an error with a traceback to the user's line, and code 1", function()
    local file = script("fails.lua", "local function inner() error 'broken' end\n\nlocal function outer() inner() end\nouter()")
    local out, err, code = run { file }
    assert.same({ "", 1 }, { out, code })
    assert.matches("fails%.lua:1: broken\nstack traceback:", err)
    assert.matches("fails%.lua:3: in", err)
    assert.matches("fails%.lua:4: in main chunk", err)
    assert.matches("%(error object is a table value%)", select(2, run { "-e", "error {}" }))
    assert.matches("nnlua: special\n$", select(2, run { "-e", "error(setmetatable({}, { __tostring = function() return 'special' end }))" }))
    assert.matches("100%% %%s %%n", select(2, run { "-e", "error('100% %s %n', 0)" }))
  end)

  it("positions an error of the library at the user's line, wherever that file lies", function()
    local code = "local nn = require 'nnlua'\nlocal t = nn.tensor { 1, 2 }\nprint(select(2, pcall(function() return t:matmul(1) end)))"
    for _, sub in ipairs { "nnlua/scripts", "share/nnlua/scripts", "lua/nnlua/scripts", "work" } do
      assert(core.sys.mkdir_p(folder .. "/" .. sub))
      assert.matches("user%.lua:3: matmul", (run { script(sub .. "/user.lua", code) }), sub)
    end
  end)

  it("ends with the code of os.exit, and runs to-be-closed variables and finalizers", function()
    assert.equal(7, select(3, run { "-e", "os.exit(7)" }))
    assert.equal(0, select(3, run { "-e", "os.exit(true, true)" }))
    assert.equal("gc\n", (run { "-e", "keep = setmetatable({}, { __gc = function() print 'gc' end })" }))
  end)

  it("finds a script that came with nnlua from any folder, and one in the current folder first", function()
    local out, _, code = run({ "train_mnist.lua", "--help" }, { cwd = folder })
    assert.equal(0, code)
    assert.matches("^usage: nnlua train_mnist%.lua", out)
    assert.equal(out, (run({ "train_mnist", "--help" }, { cwd = folder })))
    script("train_mnist.lua", "print 'mine'")
    assert.equal("mine\n", (run({ "train_mnist.lua" }, { cwd = folder })))
    os.remove(folder .. "/train_mnist.lua")
    assert.equal(1, select(3, run({ "./train_mnist.lua" }, { cwd = folder })))
    local _, err = run({ "no_such.lua" }, { cwd = folder })
    assert.matches("cannot open no_such%.lua: No such file or directory %(looked here and in .*scripts%)", err)
    assert.matches("cannot read .*: Is a directory", select(2, run { folder }))
  end)

  it("starts in at most 15 ms with an empty statement", function()
    local best = math.huge
    for _ = 1, 10 do
      local start = core.sys.clock()
      assert(os.execute(program.quote(program.path) .. " -e ''"))
      best = math.min(best, core.sys.clock() - start)
    end
    -- a sanitizer's run-time library alone takes longer than that
    assert.is_true(best <= (os.getenv "ASAN_OPTIONS" and 1 or 0.015), ("%.1f ms"):format(best * 1e3))
  end)

  it("loads neither HDF5, curl, image libraries nor the line editor until they are used", function()
    local maps = run { "-e", "require 'nnlua' io.write(io.open('/proc/self/maps'):read 'a')" }
    assert.matches("libnn%.so", maps) -- these are the maps
    for _, name in ipairs { "hdf5", "curl", "libedit", "vulkan", "jpeg", "png" } do assert.is_nil(maps:find(name, 1, true), name) end
  end)

  it("uses the generational collector", function()
    assert.equal("generational\n", (run { "-e", "print(collectgarbage 'incremental')" }))
  end)
end)

describe("loading Lua source", function()
  local folder, dump
  setup(function()
    folder = program.folder()
    dump = string.dump(load "local x = ... for i = 1, 10 do x = { x, i, 'text', 1.5 } end return function() return x end", false)
  end)
  teardown(function() program.remove(folder) end)

  -- The nine ways in. Each takes bytes and returns whether they were refused, and the message.
  local function ways()
    local file, written = folder .. "/chunk.lua", nil
    local function write(s)
      if s ~= written then program.write(file, s) end
      written = s
    end
    local function process(...)
      local _, err, code = run(...)
      return code == 1, err
    end
    return {
      load_string = function(s)
        local f, m = load(s)
        return f == nil, m
      end,
      load_function = function(s)
        local at = 0
        local f, m = load(function()
          at = at + 1
          return s:sub(at, at)
        end, "=pieces", "bt")
        return f == nil, m
      end,
      loadfile = function(s)
        write(s)
        local f, m = loadfile(file, "b")
        local g = loadfile(file, "bt")
        return f == nil and g == nil, m
      end,
      dofile = function(s)
        write(s)
        local ok, m = pcall(dofile, file)
        return not ok, m
      end,
      require = function(s)
        write(s)
        package.loaded.chunk, package.path = nil, folder .. "/?.lua;" .. package.path
        local ok, m = pcall(require, "chunk")
        package.path = package.path:sub(#folder + 8)
        return not ok, m
      end,
      core = function(s)
        write(s)
        local f, m = core.sys.load_text(s, "=x")
        local g = core.sys.load_file(file)
        return f == nil and g == nil, m
      end,
      script = function(s)
        write(s)
        return process { file }
      end,
      stdin = function(s) return process({ "-" }, { stdin = s }) end,
      library = function(s)
        write(s)
        return process({ "-l", "chunk", "-e", "" }, { cwd = folder })
      end,
      init = function(s)
        write(s)
        return process({ "-e", "" }, { env = "LUA_INIT=@" .. file })
      end,
    }
  end
  local in_process = { "load_string", "load_function", "loadfile", "dofile", "require", "core" }
  local function names_bytecode(message) return type(message) == "string" and (message:find "binary chunk" or message:find "bytecode") end

  it("refuses bytecode everywhere", function()
    for name, way in pairs(ways()) do
      local refused, message = way(dump)
      assert.is_true(refused, name)
      assert.truthy(names_bytecode(message), name)
    end
  end)

  -- Chunks that are damaged: `n` of them, each with the byte that begins bytecode.
  local function mutants(n, seed)
    local random, list = support.random(seed), {}
    for i = 1, n do
      local bytes = { dump:byte(1, -1) }
      for _ = 1, random.int(1, 8) do bytes[random.int(2, #bytes)] = random.int(0, 255) end
      list[i] = string.char(table.unpack(bytes, 1, i % 3 == 0 and random.int(2, #bytes) or #bytes))
    end
    return list
  end

  it("refuses damaged chunks at every way into a Lua state", function()
    local seed, n, all = support.seed(1), support.cases(5000), ways()
    local list, tried = mutants(n, seed), 0
    for i, mutant in ipairs(list) do
      for _, name in ipairs(in_process) do
        local refused, message = all[name](mutant)
        if not (refused and names_bytecode(message)) then error(("%s took mutant %d: %s"):format(name, i, message)) end
        tried = tried + 1
      end
    end
    local file = folder .. "/w"
    local function refusals(i) -- in the states of workers, which have files of their own
      local name = file .. i:item() .. ".lua"
      local s, count = list[i:item()], 0
      local f = assert(io.open(name, "wb"))
      f:write(s)
      f:close()
      for _, way in ipairs { function() return load(s, "=s", "bt") end, function() return loadfile(name, "b") end,
        function() return pcall(dofile, name) end } do
        local value, message = way()
        if not value and (message:find "binary chunk" or message:find "bytecode") then count = count + 1 end
      end
      os.remove(name)
      return count
    end
    local refused = 0
    for count in nn.data.range(1, n):map(refusals, { workers = 2 }):iter() do refused = refused + count:item() end
    assert.same({ 6 * n, 3 * n }, { tried, refused })
    print(("damaged bytecode: seed %d, %d chunks, each refused at 6 ways in and at 3 in workers"):format(seed, n))
  end)

  -- A process for each chunk and way, two at a time.
  it("refuses damaged chunks as script, standard input, library and LUA_INIT", function()
    local seed, n = support.seed(1), support.cases(5000, true)
    for i, mutant in ipairs(mutants(n, seed)) do program.write(("%s/m%d.lua"):format(folder, i), mutant) end
    program.write(folder .. "/all.sh", [[
      cd "$(dirname "$0")" || exit
      refused() {
        if [ "$1" -ne 1 ]; then echo "took $2"; fi
        { read -r line; read -r more; } <"$err"
        case $line$more in *bytecode* | *"binary chunk"*) ran=$((ran + 1)) ;; *) echo "$2: $line$more" ;; esac
      }
      i=$1 err=err$1
      while [ "$i" -le "$2" ]; do
        "$3" "m$i.lua" 2>"$err" </dev/null
        refused $? "$i as a script"
        "$3" - <"m$i.lua" 2>"$err"
        refused $? "$i as standard input"
        "$3" -l "m$i" -e "" 2>"$err" </dev/null
        refused $? "$i as a library"
        LUA_INIT="@m$i.lua" "$3" -e "" 2>"$err" </dev/null
        refused $? "$i as LUA_INIT"
        i=$((i + 2))
      done
      echo "ran $ran"]])
    local one = ("sh %s/all.sh %%d %d %s"):format(folder, n, program.quote(program.path))
    local pipe = io.popen(("%s & %s; wait"):format(one:format(1), one:format(2)))
    local ran, out = 0, pipe:read "a"
    pipe:close()
    for count in out:gmatch "ran (%d+)" do ran = ran + count end
    assert.equal(4 * n, ran, out)
    print(("damaged bytecode: seed %d, %d chunks, each refused at 4 ways into a process"):format(seed, n))
  end)

  it("still loads text as stock Lua does", function()
    assert.equal(3, load("return 1 + 2")())
    assert.equal(5, load("return x", "=n", "t", { x = 5 })())
    assert.is_nil(load("return x", "=n", "t", {})())
    assert.equal(7, load("return x", "=n", nil, { x = 7 })())
    local parts, i = { "return ", "4", "2" }, 0
    assert.equal(42, load(function()
      i = i + 1
      return parts[i]
    end)())
    local f, m = load("x =", "=name")
    assert.is_nil(f)
    assert.equal("name:1: unexpected symbol near <eof>", m)
    assert.matches('%[string "x ="%]:1:', select(2, load "x ="))
    -- inside pcall, because load lets the caller's message handler see the error, and busted's changes it
    assert.matches("reader function must return a string$", select(3, pcall(load, function() return {} end)))
    assert.matches("oops$", select(3, pcall(load, function() error "oops" end)))
    assert.is_nil((load("return 1", "=n", "b")))
    assert.has_error(function() load() end)
    program.write(folder .. "/t.lua", "#!x\nreturn ..., y")
    assert.same({ 3, 4 }, { loadfile(folder .. "/t.lua", "t", { y = 4 })(3) })
    assert.matches("cannot open .*none", select(2, loadfile(folder .. "/none")))
    program.write(folder .. "/d.lua", "coroutine.yield(1) return 2, 3")
    local co = coroutine.wrap(function() return dofile(folder .. "/d.lua") end)
    assert.equal(1, co())
    assert.same({ 2, 3 }, { co() })
  end)

  it("has one place that compiles", function()
    local count = 0
    local list = assert(io.popen "ls bindings/*.c")
    for name in list:lines() do
      local text = program.read(name)
      for call in text:gmatch "[%w_]+%s*%(" do
        if call:find "^lua_load%s*%(" or call:find "^luaL_load" or call:find "^luaL_dofile" or call:find "^luaL_dostring" then
          count = count + 1
          assert.equal("bindings/lua_load.c", name)
        end
      end
    end
    list:close()
    assert.equal(2, count) -- source of files and texts; functions of our own that are copied to a state of ours (layering_spec)
  end)
end)

describe("Ctrl-C", function()
  -- Runs `code`, presses once after 0.4 s; returns exit code, messages, output, seconds from the press to the end.
  local function press(code)
    local start = core.sys.clock()
    local out, err, rc = run({ "-e", code }, { interrupt = 0.4 })
    return rc, err, out, core.sys.clock() - start - 0.4
  end
  local cases = {
    ["a loop"] = "while true do end",
    ["a coroutine"] = "coroutine.wrap(function() while true do end end)()",
    ["a coroutine in a coroutine"] = "local w = coroutine.wrap w(function() w(function() while true do end end)() end)()",
    ["coroutines that come and go"] = "while true do coroutine.wrap(function() end)() end",
    ["a loop around pcall"] = "while true do pcall(function() while true do end end) end",
    ["a loop around pcall of errors"] = "while true do pcall(error) end",
    ["a loop around coroutines in pcall"] = "while true do pcall(coroutine.wrap(function() while true do pcall(error) end end)) end",
    ["a comparison of sort"] = "table.sort({ 3, 1, 2 }, function() while true do end end)",
    ["a loop under xpcall"] = "while true do xpcall(function() while true do end end, function(m) return m end) end",
    ["a sleep"] = "require 'nnlua.core'.sys.sleep(30)",
    ["a read from a pipe"] = "io.popen('sleep 2'):read()",
  }
  cases["long computations"] = [[
    local nn = require "nnlua"
    local x = nn.ones { 1000, 1000 }
    while true do
      local y = x
      for _ = 1, 100 do y = y:matmul(x):tanh() end
      y:sum():item()
    end]]
  for name, code in pairs(cases) do
    it("stops " .. name, function()
      local rc, err, _, seconds = press(code)
      assert.equal(130, rc)
      assert.equal(program.path .. ": interrupted\n", err)
      assert.is_true(seconds < 1, seconds)
    end)
  end

  it("lets a closing variable finish its work", function()
    local rc, _, out = press [[
      local x <close> = setmetatable({}, { __close = function() local n = 0 for i = 1, 1e5 do n = n + i end print(n) end })
      while true do end]]
    assert.same({ 130, "5000050000\n" }, { rc, math.tointeger(tonumber(out)) .. "\n" })
  end)

  it("can be dealt with by the program", function()
    local rc, err, out = press [[
      local sys = require "nnlua.core".sys
      local ok, message = pcall(function() while true do end end)
      print(ok, message:match "interrupted", sys.interrupted(), sys.clear_interrupt(), sys.interrupted())
      local n = 0
      for i = 1, 1e6 do n = n + 1 end
      print(n)
      error("stopped: " .. message, 0)]]
    assert.equal("false\tinterrupted\ttrue\ttrue\tfalse\n1000000\n", out)
    assert.equal(130, rc)
    assert.equal(program.path .. ": interrupted\n", err)
  end)

  it("shows another error that follows it", function()
    local rc, err = press [[
      pcall(function() while true do end end)
      require "nnlua.core".sys.clear_interrupt()
      error "disk full"]]
    assert.equal(130, rc)
    assert.matches("disk full", err)
  end)

  it("ends the process at the third press", function()
    -- a finalizer runs without hooks, so nothing but the third press stops it
    local start = core.sys.clock()
    local code = "setmetatable({}, { __gc = function() while true do end end }) collectgarbage()"
    -- the shell becomes nnlua; in the background it would be deaf to SIGINT
    local line = ("(sleep 0.3; for i in 1 2 3; do kill -INT $$; sleep 0.1; done) & exec %s -e %s 2>/dev/null"):format(
      program.quote(program.path), program.quote(code))
    local _, _, rc = os.execute("timeout --foreground -k 1 10 sh -c " .. program.quote(line))
    assert.equal(130, rc)
    assert.is_true(core.sys.clock() - start < 5)
  end)

  it("is ignored by a process that was started deaf to it", function()
    local line = ("trap '' INT; %s -e %s & p=$!; sleep 0.2; kill -INT $p; wait $p"):format(program.quote(program.path),
      program.quote "local s = require 'nnlua.core'.sys s.sleep(0.6) os.exit(5)")
    local _, _, rc = os.execute("timeout -k 1 10 sh -c " .. program.quote(line))
    assert.equal(5, rc)
  end)
end)

describe("coroutines of the program", function()
  it("behave as Lua's", function()
    local co = coroutine.create(function(a)
      local b = coroutine.yield(a + 1)
      error("x" .. b, 0)
    end)
    assert.same({ true, 2 }, { coroutine.resume(co, 1) })
    assert.same({ false, "x2" }, { coroutine.resume(co, 2) })
    assert.same({ false, "cannot resume dead coroutine" }, { coroutine.resume(co) })
    assert.same({ false, "x2" }, { coroutine.close(co) })
    assert.same({ false, "cannot resume non-suspended coroutine" }, { coroutine.resume((coroutine.running())) })
    assert.is_false((pcall(coroutine.close, (coroutine.running()))))
    assert.is_false((pcall(coroutine.resume, 3)))
    local closed = {}
    local function closing(name) return setmetatable({}, { __close = function(_, e) closed[#closed + 1] = name .. ":" .. tostring(e) end }) end
    local asleep = coroutine.create(function()
      local x <close> = closing "asleep"
      coroutine.yield(x)
    end)
    coroutine.resume(asleep)
    assert.is_true(coroutine.close(asleep))
    local failing = coroutine.wrap(function()
      local x <close> = closing "failing"
      error(x and "boom", 0)
    end)
    local ok, message = pcall(failing)
    assert.is_false(ok)
    assert.matches("boom$", message)
    assert.same({ "asleep:nil", "failing:boom" }, closed)
    assert.equal(2, select("#", coroutine.wrap(function(...) return ... end)(nil, nil)))
    local main = coroutine.running()
    assert.is_false(coroutine.wrap(function() return (pcall(coroutine.close, main)) end)())
  end)
end)
