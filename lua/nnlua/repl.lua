--- The interactive mode: reads, runs and prints until the end of input.
--
-- Owns: the session (its environment and history). Started by the nnlua program (bindings/main.c); in a stock lua5.4
-- `require "nnlua.repl".run()` does the same.
--
-- What it does beyond `lua`'s own: a top-level `local` stays visible on the following lines, tables print their contents, `nn` is there,
-- Tab completes names, fields and methods, a `;` at the end keeps a result from being printed.
-- Invariant: whatever a line does - an error, Ctrl-C, a changed _G - the session goes on; only the end of input or os.exit leaves it.

local sys = require "nnlua.core".sys

local repl = {}

-- ---- reading a statement ---------------------------------------------------------------------------------------------

-- Text that calls the function given as the chunk's argument, at the end of the chunk, where its locals are in scope.
local CAPTURE = "\n;(...)()"

local function compile(text, env) return sys.load_text(text, "=stdin", env) end

local function is_incomplete(message) return message:sub(-5) == "<eof>" end

--- Compile what was typed. Returns the function and whether it is an expression; nil and the message; or "more" when lines are missing.
---@param text string
---@param env table
---@return function|string|nil, boolean|string|nil
function repl.compile(text, env)
  if text:sub(1, 1) == "=" then text = text:sub(2) end -- as Lua 5.1 had it
  local asked = text:match "^%s*%?%s*([%w_%.]*)%s*$" -- ? Dense
  if asked then text = asked == "" and "require('nnlua').help()" or ("require('nnlua').help %q"):format(asked) end
  if compile("return " .. text, env) then
    -- an argument and not `return f()`, which would be a tail call and leave f out of tracebacks
    local expression = compile("return (...)(" .. text:gsub(";%s*$", "") .. "\n)", env) or compile("return " .. text, env)
    return expression, true
  end
  local plain, message = compile(text, env)
  if not plain then
    if is_incomplete(message) then return "more" end
    return nil, message
  end
  return compile(text .. CAPTURE, env) or plain, false -- with a `return` at the end it has no place for the capture
end

-- The environment of a session: locals of earlier lines are its own fields, everything else is a global.
function repl.environment()
  return setmetatable({}, { __index = _G, __newindex = _G })
end

-- The function that a chunk calls at its end: copies the chunk's locals into env.
local function capture_into(env)
  return function()
    local i = 1
    while true do
      local name, value = debug.getlocal(2, i)
      if not name then break end
      if name:match "^[%a_]" and name ~= "_" then rawset(env, name, value) end
      i = i + 1
    end
  end
end

-- ---- printing --------------------------------------------------------------------------------------------------------

local MAX_ITEMS, MAX_DEPTH, WIDTH = 40, 3, 100

local function has_own_text(v)
  local mt = debug.getmetatable(v)
  return type(mt) == "table" and (rawget(mt, "__tostring") ~= nil or rawget(mt, "__name") ~= nil)
end

local function key_text(k, show)
  if type(k) == "string" and k:match "^[%a_][%w_]*$" then return k end
  return "[" .. show(k) .. "]"
end

-- Keys in an order that does not change from run to run: numbers, strings, the rest as it comes.
local function sorted_keys(t, n)
  local keys = {}
  for k in next, t do
    if not (math.type(k) == "integer" and k >= 1 and k <= n) then keys[#keys + 1] = k end
  end
  local rank = { number = 1, string = 2 }
  table.sort(keys, function(a, b)
    local ra, rb = rank[type(a)] or 3, rank[type(b)] or 3
    if ra ~= rb then return ra < rb end
    return ra < 3 and a < b
  end)
  return keys
end

local function table_text(t, depth, seen)
  if seen[t] then return "{...}" end
  if depth > MAX_DEPTH then return next(t) == nil and "{}" or "{...}" end
  seen[t] = true
  local function show(v)
    if type(v) == "string" then return (("%q"):format(v):gsub("\\\n", "\\n")) end
    if type(v) == "table" and not has_own_text(v) then return table_text(v, depth + 1, seen) end
    return tostring(v)
  end
  local parts, n, left = {}, rawlen(t), MAX_ITEMS
  for i = 1, math.min(n, left) do parts[#parts + 1] = show(rawget(t, i)) end
  left = left - #parts
  local keys = sorted_keys(t, n)
  for i = 1, math.min(#keys, left) do parts[#parts + 1] = key_text(keys[i], show) .. " = " .. show(rawget(t, keys[i])) end
  local hidden = n + #keys - #parts
  if hidden > 0 then parts[#parts + 1] = ("... %d more"):format(hidden) end
  seen[t] = nil
  local flat = "{ " .. table.concat(parts, ", ") .. " }"
  if #parts == 0 then return "{}" end
  if #flat + 2 * depth <= WIDTH and not flat:find "\n" then return flat end
  local indent = ("  "):rep(depth)
  return "{\n" .. indent .. table.concat(parts, ",\n" .. indent) .. "\n" .. ("  "):rep(depth - 1) .. "}"
end

--- A value as the session shows it: like tostring, but a plain table shows what it holds.
---@param v any
---@return string
function repl.text(v)
  if type(v) == "table" and not has_own_text(v) then return table_text(v, 1, {}) end
  return tostring(v)
end

local function print_results(results)
  local parts, several_lines = {}, false
  for i = 1, results.n do
    parts[i] = repl.text(results[i])
    several_lines = several_lines or parts[i]:find("\n", 1, true)
  end
  io.stdout:write(table.concat(parts, several_lines and "\n" or "\t"), "\n")
end

-- ---- running ---------------------------------------------------------------------------------------------------------

local this_file = debug.getinfo(1, "S").short_src
local library = this_file:match "^(.*[/\\])[^/\\]*$" or this_file -- as tracebacks begin the files of the library

-- Error value -> text with the traceback down to the typed line; the session's own frames are left out.
local function with_traceback(err)
  local text
  if type(err) == "string" then
    text = err
  elseif type(err) ~= "table" and type(err) ~= "userdata" or not has_own_text(err) then
    text = ("(error object is a %s value)"):format(type(err))
  else
    text = tostring(err)
  end
  local trace, kept = debug.traceback("", 2), {}
  for line in trace:gmatch "\n(\t[^\n]*)" do
    if line:find(this_file, 1, true) or line:find("[C]: in function 'xpcall'", 1, true) then break end
    kept[#kept + 1] = line
  end
  -- When the message itself names the line that called the library, the library's own frames say nothing.
  local first = 1
  while kept[first] and (kept[first]:find "^\t%[C%]" or kept[first]:find(library, 1, true) == 2) do first = first + 1 end
  local position = kept[first] and kept[first]:match "^\t(.-:%d+:)"
  if position and text:sub(1, #position) == position then table.move(kept, first, #kept + first, 1) end
  local frames = 0
  for _, line in ipairs(kept) do
    if not line:find "^\t%[C%]" then frames = frames + 1 end
  end
  if frames <= 1 then return text end -- the message already names the one line there is
  return text .. "\nstack traceback:\n" .. table.concat(kept, "\n")
end

local function complain(text)
  io.stdout:flush()
  io.stderr:write(text, "\n")
end

local function pass(...) return ... end

--- Run one typed statement in env and print what it gives. Returns false when it failed.
function repl.execute(chunk, is_expression, quiet, env)
  local results = table.pack(xpcall(chunk, with_traceback, is_expression and pass or capture_into(env)))
  if not results[1] then
    local by_user = sys.interrupted()
    sys.forget_interrupt()
    complain(by_user and "interrupted" or results[2])
    return false
  end
  local values = table.pack(table.unpack(results, 2, results.n))
  if values.n > 0 and not (is_expression and quiet) then
    local ok, message = xpcall(print_results, with_traceback, values) -- a __tostring may fail, or run for long
    if not ok then
      sys.forget_interrupt()
      complain(message)
    end
  end
  return true
end

-- ---- completion ------------------------------------------------------------------------------------------------------

local KEYWORDS = { "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in", "local", "nil", "not", "or",
  "repeat", "return", "then", "true", "until", "while" }

-- t[k] without running anybody's code: own fields, and those of tables that __index names. Only nnlua's table may load a file for it.
local function peek(v, k)
  for _ = 1, 20 do
    if v == package.loaded.nnlua then
      local ok, value = pcall(function() return v[k] end)
      return ok and value or nil
    end
    if type(v) == "table" then
      local own = rawget(v, k)
      if own ~= nil then return own end
    end
    local mt = debug.getmetatable(v)
    if type(mt) ~= "table" then return nil end
    local index = rawget(mt, "__index")
    if type(index) ~= "table" then
      local methods = rawget(mt, "methods") -- where __index is a function, as a tensor's is
      return type(methods) == "table" and peek(methods, k) or nil
    end
    v = index
  end
end

local function add_names(iterate, prefix, only_functions, found)
  for k, field in iterate() do
    if type(k) == "string" and k:match "^[%a_][%w_]*$" and k:sub(1, #prefix) == prefix
      and (not only_functions or type(field) == "function" or type(field) == "table") then
      found[k] = true
    end
  end
end

-- Adds to `found` the names that v answers to and that begin with `prefix`.
local function collect(v, prefix, only_functions, found)
  for _ = 1, 20 do
    if type(v) == "table" then add_names(function() return next, v end, prefix, only_functions, found) end
    local mt = debug.getmetatable(v)
    if type(mt) ~= "table" then return end
    if v == package.loaded.nnlua then pcall(add_names, function() return pairs(v) end, prefix, only_functions, found) end
    local index = rawget(mt, "__index")
    if type(index) ~= "table" then index = rawget(mt, "methods") end
    if type(index) ~= "table" then return end
    v = index
  end
end

local function common_prefix(list)
  local first, last = list[1], list[#list] -- sorted, so these two differ most
  local n = 0
  while n < #first and first:byte(n + 1) == last:byte(n + 1) do n = n + 1 end
  return first:sub(1, n)
end

--- Complete the name before the cursor. Returns the text to insert ("" when there is none) and the sorted candidates.
---@param before string
---@param env table
---@return string, string[]
function repl.complete(before, env)
  local chain = before:match "([%a_][%w_%.:]*)$"
  if not chain then
    if before:match "^%s*$" then return "  ", {} end -- indentation
    return "", {}
  end
  local at = #before - #chain
  if at > 0 and before:sub(at, at):match "[%.:%d%)%]\"']" then return "", {} end -- a field of something that is not a plain name
  local owner, separator, prefix = chain:match "^(.*)([%.:])([%w_]*)$"
  local found = {}
  if not owner then
    prefix = chain
    collect(env, prefix, false, found)
    for _, word in ipairs(KEYWORDS) do
      if word:sub(1, #prefix) == prefix then found[word] = true end
    end
  else
    local value = env
    for name in owner:gmatch "[^%.:]+" do
      value = peek(value, name)
      if value == nil then return "", {} end
    end
    collect(value, prefix, separator == ":", found)
  end
  local list = {}
  for name in pairs(found) do
    if prefix ~= "" or name:sub(1, 1) ~= "_" then list[#list + 1] = name end
  end
  table.sort(list)
  if #list == 0 then return "", list end
  return common_prefix(list):sub(#prefix + 1), list
end

-- ---- history ---------------------------------------------------------------------------------------------------------

local HISTORY_LINES = 2000

-- Reads the history file; a file grown to twice the limit is cut to its newest lines. Returns the lines and the path to add to, if any.
local function read_history()
  local folder = sys.state_dir()
  if not folder or not sys.mkdir_p(folder, true) then return {} end
  local path = folder .. "/history"
  if not sys.create_private(path) then return {} end
  local lines, file = {}, io.open(path, "r")
  if not file then return {} end
  for line in file:lines() do lines[#lines + 1] = line end
  file:close()
  if #lines > 2 * HISTORY_LINES then
    lines = table.move(lines, #lines - HISTORY_LINES + 1, #lines, 1, {})
    local fresh = path .. "." .. sys.getpid()
    file = sys.create_private(fresh) and io.open(fresh, "w")
    if file then
      local ok = file:write(table.concat(lines, "\n"), "\n")
      if file:close() and ok then os.rename(fresh, path) else os.remove(fresh) end
    end
  end
  return lines, path
end

-- ---- the session -----------------------------------------------------------------------------------------------------

-- A reader is a function(prompt) -> line, or nil and "interrupted", or nil at the end of input; and a function that notes what was typed.
local function plain_reader()
  local function read(prompt)
    io.stdout:write(prompt)
    io.stdout:flush()
    local ok, line = pcall(io.read, "l")
    if sys.interrupted() then
      sys.forget_interrupt()
      io.stdout:write "\n"
      return nil, "interrupted"
    end
    return ok and line or nil
  end
  return read, function() end, function() end
end

local function editing_reader(env)
  if not (sys.isatty(0) and sys.isatty(1)) or os.getenv "TERM" == "dumb" then return nil end
  local ok, edit = pcall(require, "nnlua.edit")
  if not ok or not edit.start("nnlua", function(before) return repl.complete(before, env) end) then return nil end
  local lines, path = read_history()
  for _, line in ipairs(lines) do edit.remember(line) end
  local last = lines[#lines]
  local function remember(line)
    if line == last or line:match "^%s*$" then return end
    last = line
    edit.remember(line)
    local file = path and io.open(path, "a")
    if file then
      file:write(line, "\n")
      file:close()
    end
  end
  return edit.read, remember, edit.stop
end

local function prompt_of(name, default, env)
  local text = env[name]
  return text == nil and default or tostring(text)
end

-- Reads until a statement is complete. Returns chunk, is_expression, text; or nil at the end of input; or false when there is nothing to run.
local function read_statement(session)
  local line, why = session.read(prompt_of("_PROMPT", "> ", session.env))
  if not line then
    if why == "interrupted" then return false end
    return nil
  end
  session.remember(line)
  local text = line
  if text:match "^%s*$" then return false end
  while true do
    local chunk, extra = repl.compile(text, session.env)
    if not chunk then
      complain(extra)
      return false
    elseif chunk ~= "more" then
      return chunk, extra, text
    end
    line, why = session.read(prompt_of("_PROMPT2", ">> ", session.env))
    if not line then
      if why == "interrupted" then return false end
      complain(select(2, compile(text, session.env))) -- input ended in the middle of a statement
      return nil
    end
    session.remember(line)
    text = text .. "\n" .. line
  end
end

local function loop(session)
  while true do
    local chunk, is_expression, text = read_statement(session)
    if chunk == nil then return end
    if chunk then repl.execute(chunk, is_expression, text:match ";%s*$", session.env) end
  end
end

--- Run a session until the end of input.
function repl.run()
  if rawget(_G, "nn") == nil then
    local ok, nn = pcall(require, "nnlua")
    if ok then rawset(_G, "nn", nn) else complain("nnlua's library did not load: " .. tostring(nn)) end
  end
  local session = { env = repl.environment() }
  session.read, session.remember, session.stop = editing_reader(session.env)
  if not session.read then session.read, session.remember, session.stop = plain_reader() end
  repeat
    local ok, message = xpcall(loop, with_traceback, session) -- Ctrl-C can hit the session's own code, too
    if not ok then
      local by_user = sys.interrupted()
      sys.forget_interrupt()
      complain(by_user and "interrupted" or message)
    end
  until ok
  session.stop()
  if sys.isatty(0) then io.stdout:write "\n" end
end

return repl
