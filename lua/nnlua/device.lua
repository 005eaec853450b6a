--- Devices as scripts see them: `nn.devices()`, `nn.device(name)`, and "auto", which lets the first steps of training decide.
--
-- Owns: what the list prints, and the choice of "auto". Everything else about devices is the core's.
--
--     local nn = require "nnlua"
--     print(nn.devices()[1].name, nn.device())      --> cpu  cpu
--
-- "auto" is undecided until fit has its first batch. Then fit hands trial() a function that makes a step on it; each real device (never a software
-- one) makes some, and the fastest stays. Weights, optimizer and random stream are put back to where they stood, and the data set has given the one
-- batch that training begins with anyway, so training is exactly what it would have been on that device from the start. Until then tensors are
-- made on the CPU; a loop by hand stays there. Where there is only the CPU, that is said at once.

local core = require "nnlua.core"

local device = {}

-- ---- the list --------------------------------------------------------------------------------------------------------

local Devices = { __name = "Devices" }

local function line(d)
  local words = { ("%-9s %s"):format(d.name, d.title) }
  if d.name ~= "cpu" then
    words[#words + 1] = d.kind == "software" and "software, slow: runs on the CPU" or d.kind
    words[#words + 1] = ("%.1f GiB"):format(d.memory / 2 ^ 30)
    words[#words + 1] = ("subgroups of %d"):format(d.subgroup)
    words[#words + 1] = d.features
    words[#words + 1] = d.driver
  end
  return table.concat(words, ", ")
end

function Devices.__tostring(list)
  local lines = {}
  for i, d in ipairs(list) do lines[i] = line(d) end
  if #lines == 1 then lines[2] = select(2, core.device "vulkan"):gsub("^device: ", "") end
  return table.concat(lines, "\n")
end

--- What can compute here: the CPU first, then the Vulkan devices. Printed, it is a table of one line each.
function device.devices() return setmetatable(core.devices(), Devices) end

-- ---- what runs where -------------------------------------------------------------------------------------------------

local Supported = { __name = "Supported" }

function Supported.__tostring(list)
  local lines = { ("%-30s %-4s %s"):format("operator", "cpu", "vulkan") }
  for i, row in ipairs(list) do lines[i + 1] = ("%-30s %-4s %s"):format(row.name, "yes", row.vulkan and "yes" or "no") end
  return table.concat(lines, "\n")
end

local made_of = { pinv = "svd" } -- operators without a kernel of their name that need one the CPU alone has

--- Which operators run where: a list of { name =, cpu = true, vulkan = }, made from the tables of operators and kernels. Everything but what is
--- LAPACK's runs on Vulkan (f64 does not: that is the CPU's). Printed, it is a table.
---@return { name: string, cpu: boolean, vulkan: boolean }[]
function device.supported()
  local missing, list = {}, {}
  for _, name in ipairs(core.kernels_without_vulkan()) do missing[name] = true end
  for i, op in ipairs(core.ops()) do
    list[i] = { name = op.name, cpu = true, vulkan = not missing[op.name] and not missing[made_of[op.name]] }
  end
  return setmetatable(list, Supported)
end

-- ---- choosing --------------------------------------------------------------------------------------------------------

local undecided = false

-- Tests have no GPU: there a software device may stand for one.
local function real_devices()
  local software, names = os.getenv "NNLUA_AUTO_SOFTWARE" == "1", {}
  for _, d in ipairs(core.devices()) do
    if d.name ~= "cpu" and (software or d.kind ~= "software") then names[#names + 1] = d.name end
  end
  return names
end

local function say(text) io.stderr:write("device auto: ", text, "\n") end

--- The device where tensors are made that nothing else decides; with a name, choose it: "cpu", "vulkan", "vulkan:2", "auto". Nil and a message
--- when there is no such device.
---@param name? string
function device.device(name)
  if name == nil then return undecided and "auto" or core.device() end
  if name == "auto" then
    core.device "cpu"
    undecided = #real_devices() > 0
    if not undecided then say "there is no GPU here; the CPU computes" end
    return undecided and "auto" or "cpu"
  end
  local chosen, message = core.device(name)
  if not chosen then return nil, message end
  undecided = false
  return chosen
end

--- Has "auto" still to decide?
function device.undecided() return undecided end

-- ---- the trial -------------------------------------------------------------------------------------------------------

local WARM, LEAST, MOST, SECONDS = 2, 3, 50, 0.25 -- steps before the clock starts, steps that are timed, for how long at least

local function keep(tensor)
  local value = tensor:detach()
  value:keep()
  return value
end

-- Values are never changed, so that remembering them costs no copy.
local function snapshot(model, optimizer)
  local weights, state = {}, optimizer:state()
  for i, w in ipairs(model:weights()) do weights[i] = { w.tensor, keep(w.tensor) } end
  for i, slot in ipairs(state.slots) do state.slots[i] = { name = slot.name, slot = slot.slot, tensor = keep(slot.tensor) } end
  return { weights = weights, optimizer = state, rng = core.rng_state() }
end

local function put_back(start, optimizer)
  optimizer:zero_grad()
  for _, w in ipairs(start.weights) do w[1]:assign(w[2]) end
  optimizer:set_state(start.optimizer)
  core.set_rng_state(start.rng)
  core.eval()
end

-- Seconds per step on a device, with everything there that training keeps there.
local function time_on(name, model, step)
  assert(core.device(name))
  model:to(name)
  for _ = 1, WARM do step() end
  core.finish()
  local start, n = core.sys.clock(), 0
  repeat
    step()
    n = n + 1
  until n >= MOST or n >= LEAST and core.sys.clock() - start > SECONDS
  core.finish()
  return (core.sys.clock() - start) / n
end

--- Decide: time `step` on the CPU and on every GPU, put everything back, and leave model and default device where it was fastest. For fit, with
--- the model built and the optimizer bound.
---@param model nnlua.Module
---@param optimizer nnlua.Optimizer
---@param step function
function device.trial(model, optimizer, step)
  undecided = false
  if model:device() ~= "cpu" then return core.device(model:device()) end -- its user has chosen
  local start, best, least, figures = snapshot(model, optimizer), "cpu", math.huge, {}
  for _, name in ipairs { "cpu", table.unpack(real_devices()) } do
    local ok, seconds = pcall(time_on, name, model, step)
    put_back(start, optimizer)
    if not ok and tostring(seconds):find("interrupted", 1, true) then error(seconds, 0) end
    if ok and seconds < least then best, least = name, seconds end
    figures[#figures + 1] = ok and ("%s %.3f ms/step"):format(name, seconds * 1e3)
      or ("%s failed (%s)"):format(name, (tostring(seconds):gsub("^[^\n]-:%d+: ", ""):gsub("\n.*", "")))
  end
  core.device(best)
  model:to(best)
  core.eval()
  core.memory_trim() -- what the others used
  if least < math.huge then say(("%s; %s computes"):format(table.concat(figures, ", "), best)) end -- else the first step of training says why
end

return device
