--- How a training script begins: `local opt, must = nn.script(arg, { about = ..., options })`.
--
-- Owns: the options that all such scripts have (--seed, --device, --threads), and how a mistake of the outside world ends one.
--
--     local nn = require "nnlua"
--     local opt, must = nn.script({ [0] = "train.lua", "--epochs", "5" }, {
--       { "epochs", "integer", default = 3, min = 1, help = "passes over the data" } })
--     print(opt.epochs, opt.seed, must(#opt.device > 0))     --> 5  1  true

local core = require "nnlua.core"
local device = require "nnlua.device".device
local options = require "nnlua.options"

local M = {}

local function common()
  return {
    { "seed", "integer", default = 1, help = "of everything that is random" },
    { "device", "string", default = device(), value = "NAME", help = "where to compute: cpu, vulkan, vulkan:2, or auto: the faster one" },
    { "threads", "integer", min = 1, help = "CPU threads, by default all" },
  }
end

--- The options of a script from its `arg` (nn.options.parse_args: a mistake there, or --help, ends the program), with --seed, --device and --threads
--- added and obeyed. Also returns `must(value, message, ...)`, which gives back what it got; or, when the value is nil, prints the message as one
--- line, after the script's name, and ends the program with code 1. It is for what files, networks and devices can do; wrong use raises.
---@param args table  the global `arg`
---@param spec nnlua.Argument[]
---@return table options, fun(value: any, message?: any, ...): ... must
function M.script(args, spec)
  local all = { about = spec.about, name = spec.name }
  table.move(spec, 1, #spec, 1, all)
  table.move(common(), 1, 3, #spec + 1, all)
  local opt = options.parse_args(args, all)
  local name = (spec.name or tostring(args[0] or "script"):match "[^/\\]*$"):gsub("%.lua$", "")
  local function must(...)
    local value, message = ...
    if value ~= nil then return ... end
    io.stdout:flush()
    io.stderr:write(name, ": ", tostring(message), "\n")
    os.exit(1, true)
  end
  M.options = {} -- as plain data, for checkpoints
  for key, value in pairs(opt) do
    if type(key) == "string" and type(value) ~= "function" and type(value) ~= "userdata" then M.options[key] = value end
  end
  core.seed(opt.seed)
  if opt.threads then core.threads(opt.threads) end
  must(device(opt.device))
  return opt, must
end

return M
