-- Runs the nnlua program for specs: a shell command line with its output, messages and exit code.
local core = require "nnlua.core"
local files = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "files.lua")

local program = {}

local exe = core.sys.exe_path()
--- Path of nnlua, or nil when busted runs under another Lua; specs about the program skip then.
program.path = exe and exe:match "[^/]*$" == "nnlua" and exe or nil

--- One word for the shell.
function program.quote(s) return "'" .. s:gsub("'", "'\\''") .. "'" end

program.read, program.write = files.read, files.write

--- A fresh folder; the spec removes it with program.remove.
program.folder, program.remove = files.folder, files.remove

--- Run `nnlua words...`. Fields of o: stdin (text), env ("A=1 B=2"), cwd, interrupt (seconds until SIGINT), exe.
--- Returns standard output, standard error and the exit code.
function program.run(words, o)
  o = o or {}
  local folder = program.folder()
  local line = { "cd", program.quote(o.cwd or "."), "&&", "env", o.env or "" }
  if o.interrupt then line[#line + 1] = "timeout --preserve-status -k 5 -s INT " .. o.interrupt end
  line[#line + 1] = program.quote(o.exe or program.path)
  for _, word in ipairs(words) do line[#line + 1] = program.quote(word) end
  program.write(folder .. "/in", o.stdin or "")
  line[#line + 1] = ("<%s/in >%s/out 2>%s/err"):format(folder, folder, folder)
  local _, _, code = os.execute(table.concat(line, " "))
  local out, err = program.read(folder .. "/out"), program.read(folder .. "/err")
  program.remove(folder)
  return out, err, code
end

return program
