-- lua/nnlua/repl.lua: the parts by themselves, and the session on a real (pseudo-)terminal.
local program = dofile "tests/program.lua"
local core = require "nnlua.core"
local repl = require "nnlua.repl"

describe("reading a statement", function()
  local function kind(text)
    local chunk, expression = repl.compile(text, {})
    if type(chunk) == "function" then return expression and "expression" or "statement" end
    return chunk or "error"
  end

  it("tells expressions, statements, unfinished text and mistakes apart", function()
    for text, expected in pairs {
      ["1 + 1"] = "expression", ["f()"] = "expression", ["= 5"] = "expression", ["f() -- note"] = "expression", ["1;"] = "expression",
      ["x = 5"] = "statement", ["local x = 5"] = "statement", ["return 5"] = "statement", ["goto e local x ::e::"] = "statement",
      ["for i = 1, 3 do"] = "more", ["f("] = "more", ["x = [["] = "more", ["x ="] = "more",
      ["1 +* 2"] = "error", ["end"] = "error", ["x = = 5"] = "error", ["1) + (2"] = "error",
    } do
      assert.equal(expected, kind(text), text)
    end
  end)

  -- Runs lines one after another in one session; returns the environment.
  local function session(...)
    local env = repl.environment()
    for _, text in ipairs { ... } do
      local chunk, expression = repl.compile(text, env)
      assert.is_true(repl.execute(chunk, expression, true, env), text)
    end
    return env
  end

  it("keeps top-level locals for the next line", function()
    local env = session("local a, b = 1, {}", "local function f() a = a + 1 return a end", "b.x = f() + a", "a = a * 10", "local a = a + 1")
    assert.equal(21, env.a)
    assert.equal(4, env.b.x)
    assert.is_nil(rawget(_G, "a"))
    assert.is_nil(rawget(_G, "f"))
  end)

  it("makes everything else global, and forgets inner locals", function()
    local env = session("repl_spec_global = 5", "do local inner = 1 end", "for i = 1, 2 do local j = i end", "local _ = 9")
    assert.equal(5, rawget(_G, "repl_spec_global"))
    rawset(_G, "repl_spec_global", nil)
    assert.is_nil(env.inner)
    assert.is_nil(env.i)
    assert.is_nil(rawget(env, "_"))
  end)
end)

describe("the text of a value", function()
  it("shows what plain tables hold, in a fixed order", function()
    assert.equal("{}", repl.text {})
    assert.equal('{ 1, "a\\n", [2.5] = 1, x = true }', repl.text { 1, "a\n", x = true, [2.5] = 1 })
    assert.equal("{ a = 1, b = { 2 }, c = 3 }", repl.text { c = 3, b = { 2 }, a = 1 })
    assert.equal("{ { { {...} } } }", repl.text { { { { 1 } } } })
    local loop = {}
    loop.me = loop
    assert.equal("{ me = {...} }", repl.text(loop))
  end)

  it("cuts long ones and breaks wide ones into lines", function()
    local long = {}
    for i = 1, 1000 do long[i] = i end
    assert.matches("39,\n?%s*40,\n?%s*%.%.%. 960 more", repl.text(long))
    assert.matches("\n  [%w]+ = ", repl.text { a = ("x"):rep(60), b = ("y"):rep(60) })
  end)

  it("leaves the word to an object that has one", function()
    assert.equal("me", repl.text(setmetatable({ 1 }, { __tostring = function() return "me" end })))
    assert.equal("{ me }", repl.text { setmetatable({ 1 }, { __tostring = function() return "me" end }) })
    assert.equal("text", repl.text "text")
  end)
end)

describe("completion", function()
  local Animal = { speak = print, eat = print }
  local env = repl.environment()
  rawset(env, "dog", setmetatable({ name = "x" }, { __index = Animal }))
  rawset(env, "trap", setmetatable({}, { __index = function() error "must not run" end }))
  rawset(env, "proxy", setmetatable({}, { __index = function() error "must not run" end, methods = { run = print, rest = print } }))

  it("adds what is common and lists the rest", function()
    assert.same({ "mat", { "string.format" } }, { (repl.complete("x = string.for", env)), { "string.format" } })
    local insert, list = repl.complete("print(string.g", env)
    assert.same({ "", { "gmatch", "gsub" } }, { insert, list })
    assert.same({ "n", { "function" } }, { repl.complete("functio", env) })
    assert.same({ "", {} }, { repl.complete("no_such_thing", env) })
    assert.same({ "  ", {} }, { repl.complete("", env) })
  end)

  it("knows fields, methods, and those behind __index or in a metatable's methods, without running code", function()
    assert.same({ "me", { "name" } }, { repl.complete("dog.na", env) })
    assert.same({ "", { "eat", "speak" } }, { repl.complete("dog:", env) })
    assert.same({ "", { "eat", "name", "speak" } }, { repl.complete("dog.", env) })
    assert.same({ "", {} }, { repl.complete("trap.x", env) })
    assert.same({ "", {} }, { repl.complete("trap.x.y", env) })
    assert.same({ "", { "rest", "run" } }, { repl.complete("proxy:r", env) })
    assert.same({ "", {} }, { repl.complete("f().x", env) })
    rawset(env, "text", "abc")
    assert.same({ "", { "rep", "reverse" } }, { repl.complete("text:re", env) })
  end)
end)

-- ---- on a terminal ---------------------------------------------------------------------------------------------------

local has_python = os.execute "python3 -c 'import pty' 2>/dev/null"

describe("a session", function()
  local folder
  setup(function() folder = program.folder() end)
  teardown(function() program.remove(folder) end)

  local function hex(s) return (s:gsub(".", function(c) return ("%02x"):format(c:byte()) end)) end
  local function send(s) return "send " .. hex(s) end
  local function expect(s) return "expect " .. hex(s) end
  local UP, TAB, CTRL_C, CTRL_D = "\27[A", "\t", "\3", "\4"

  -- Runs the steps on a terminal; fails with what it showed instead.
  local function drive(steps, command)
    local file = folder .. "/steps"
    program.write(file, table.concat(steps, "\n") .. "\n")
    command = command or program.quote(program.path)
    local line = ("env -u XDG_STATE_HOME -u LUA_INIT HOME=%s LC_ALL=C.UTF-8 python3 tests/terminal.py %s %s >%s/shown 2>&1"):format(
      program.quote(folder), file, command, folder)
    local ok = os.execute(line)
    assert(ok, ok or program.read(folder .. "/shown"))
  end

  local function session(name, steps, command)
    it(name, function()
      if not program.path then return pending "runs under another Lua" end
      if not has_python then return pending "python3 with pty is missing" end
      drive(steps, command)
    end)
  end

  session("prints results, takes several lines, keeps locals", {
    expect "nnlua [0-9.]+ \\(Lua 5\\.4[^\n]*\n> $",
    send "1 + 1, 'a'\r", expect "\n2\ta\r\n> $",
    send "local x = 20\r", expect "> $", send "x + 1\r", expect "\n21\r\n> $",
    send "for i = 1, 2 do\r", expect ">> $", send "print('n' .. i)\r", expect ">> $", send "end\r", expect "\nn1\r\nn2\r\n> $",
    send "{ 1, k = 'v' }\r", expect '\n{ 1, k = "v" }\r\n> $',
    send "= 7\r", expect "\n7\r\n> $", send "8;\r", expect "8;\r\n> $",
    send "nil\r", expect "\nnil\r\n> $", send "'gr\xC3\xBCn'\r", expect "\ngr\xC3\xBCn\r\n> $",
    send(CTRL_D), "eof",
  })

  session("shows errors with the way to the typed line, and goes on", {
    expect "> $",
    send "x +* 1\r", expect "\nstdin:1: syntax error near '\\+'\r\n> $",
    send "local function f() error 'deep' end function g() f() end\r", expect "> $",
    send "g()\r", expect "\nstdin:1: deep\r\nstack traceback:\r\n.*in .*'f'\r\n.*'g'\r\n.*in main chunk\r\n> $",
    send "error {}\r", expect "error object is a table value[^\n]*\n> $",
    send "error(setmetatable({}, { __tostring = function() return '100% %s' end }))\r", expect "\n100% %s\r\n> $",
    send "setmetatable({}, { __tostring = error })\r", expect "> $",
    send "1\r", expect "\n1\r\n> $", send(CTRL_D), "eof",
  })

  session("survives Ctrl-C in a run, at the prompt and between lines", {
    expect "> $",
    send "print 'on' while true do end\r", expect "\non\r\n", send(CTRL_C), expect "interrupted\r\n> $",
    send "print 'on' while true do pcall(function() while true do end end) end\r", expect "\non\r\n", send(CTRL_C), expect "interrupted\r\n> $",
    send "print 'on' coroutine.wrap(function() while true do end end)()\r", expect "\non\r\n", send(CTRL_C), expect "interrupted\r\n> $",
    -- presses of earlier runs do not make this one the third in a row
    send "print 'on' while true do end\r", expect "\non\r\n", send(CTRL_C), expect "interrupted\r\n> $",
    send "half a line", expect "half a line$", send(CTRL_C), expect "> $",
    send "for i = 1, 2 do\r", expect ">> $", send(CTRL_C), expect "\n> $",
    send "5 + 5\r", expect "\n10\r\n> $",
    send "local n = 0 for i = 1, 1e7 do n = n + 1 end print('n' .. n)\r", expect "\nn10000000\r\n> $", -- no hook is left
    send(CTRL_D), "eof",
  })

  session("completes names with Tab", {
    expect "> $",
    send("string.form" .. TAB .. "('%d', 5)\r"), expect "\n5\r\n> $",
    send "local abc_def = 3\r", expect "> $", send("abc_" .. TAB .. "\r"), expect "\n3\r\n> $",
    send("os.t" .. TAB), expect "time +tmpname\r\n.*> os\\.t$", send(CTRL_C), expect "> $",
    send("type(nn.Conv2" .. TAB .. ") .. '!'\r"), expect "\n[a-z]+!\r\n> $",
    send "local t = nn.tensor { 1, 2 }\r", expect "> $", send("type(t.logsum" .. TAB .. ") .. '!'\r"), expect "\nfunction!\r\n> $",
    send(CTRL_D), "eof",
  })

  session("remembers lines in a session", {
    expect "> $", send "123 + 1\r", expect "\n124\r\n> $", send(UP .. "\r"), expect "\n124\r\n> $", send(CTRL_D), "eof",
  })

  it("remembers lines over sessions, in a private file", function()
    if not (program.path and has_python) then return pending "needs nnlua and python3" end
    os.remove(folder .. "/.local/state/nnlua/history")
    drive { expect "> $", send "555 + 1\r", expect "\n556\r\n> $", send(CTRL_D), "eof" }
    drive { expect "> $", send(UP .. "\r"), expect "\n556\r\n> $", send(CTRL_D), "eof" }
    assert.equal("555 + 1\n", program.read(folder .. "/.local/state/nnlua/history"))
    local modes = io.popen("stat -c '%a' " .. folder .. "/.local/state/nnlua/history " .. folder .. "/.local/state/nnlua"):read "a"
    assert.equal("600\n700\n", modes)
  end)

  local path = program.quote(program.path or "")
  session("puts the terminal back", {
    expect "> $", send "half", expect "half$", send(CTRL_C), expect "> $", send(CTRL_D), expect "mode: (icanon echo|echo icanon)\r\n", "eof",
  }, "sh -c " .. program.quote("trap : INT; " .. path .. "; echo mode: $(stty -a | tr ' ;' '\n\n' | grep -x 'icanon\\|echo')"))

  session("works without an editor on a dumb terminal", {
    expect "> $", send "1 + 1\r", expect "\n2\r\n> $", send "while true do end\r", expect "\n", send(CTRL_C), expect "interrupted\r\n> $",
    send "2 + 2\r", expect "\n4\r\n> $", send(CTRL_D), "eof" }, "env TERM=dumb " .. path)

  it("obeys _PROMPT and -i after a script", function()
    if not program.path then return pending "runs under another Lua" end
    local out = program.run({ "-i", "-e", "_PROMPT = 'p:' x = 5" }, { stdin = "x + 1\nfor i = 1, 2 do\nend\n" })
    assert.matches("^nnlua [^\n]*\np:6\np:>> p:", out)
    assert.equal(0, select(3, program.run({ "-i", "-e", "x = 5" }, { stdin = "" })))
    assert.equal(3, select(3, program.run({ "-i" }, { stdin = "os.exit(3)" })))
    assert.matches("<eof>", select(2, program.run({ "-i" }, { stdin = "for i = 1, 2 do\n" })))
  end)

  it("has nn", function()
    if not program.path then return pending "runs under another Lua" end
    assert.matches("true\n", (program.run({ "-i" }, { stdin = "nn == require 'nnlua'\n" })))
    assert.equal("nil\n", (program.run({ "-e", "print(nn)" })))
    assert.is_not_nil(core)
  end)
end)
