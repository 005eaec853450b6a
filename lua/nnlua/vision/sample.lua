--- How a list of transforms is applied to a sample: the base of all transforms of nn.vision.
--
-- Owns: the call, and where its random numbers come from. A call draws a seed from the random stream, so nn.seed makes it repeatable; `apply` is told
-- what the draws depend on.

local core = require "nnlua.core"
local class = require "nnlua.class"
local options = require "nnlua.options"

local M = {}

-- What the draws of a sample depend on.
M.key_spec = { seed = { "integer", default = 0 }, epoch = { "integer", default = 0 }, sample = { "integer", default = 0 } }

local kinds = { label = 0, image = 1, mask = 2, boxes = 3 }

---@class nnlua.VisionList
local List = class "VisionList"
M.List = List

function List:init(steps, names, range)
  local numbers = {}
  for i, name in ipairs(names) do
    numbers[i] = kinds[name]
    if not numbers[i] then
      options.raise(("vision: part %d of a sample is a %s; there are image, mask, boxes, label"):format(i, options.shown(name)))
    end
  end
  if #range ~= 2 then options.raise "vision: value_range must be {low, high}" end
  self.steps, self.kinds = steps, names
  self.handle = core.imaging.list(numbers, range[1], range[2], steps)
end

-- The parts as tensors of the dtypes that the runtime takes.
local function tensors(self, ...)
  local list = { ... }
  for i, x in ipairs(list) do
    if type(x) == "string" then list[i] = core.from_string(x, "u8")
    elseif type(x) == "number" then list[i] = core.tensor(x)
    elseif self.kinds[i] == "boxes" and core.is_tensor(x) then list[i] = x:float() end
  end
  return table.unpack(list)
end

--- The parts of a sample, changed. Images in files may be strings.
function List:__call(...) return core.imaging.apply(self.handle, nil, 0, 0, tensors(self, ...)) end

--- The same with draws that depend on key.seed, key.epoch and key.sample (integers; 0) alone.
function List:apply(key, ...)
  local o = options.check("apply", key, M.key_spec)
  return core.imaging.apply(self.handle, o.seed, o.epoch, o.sample, tensors(self, ...))
end

-- What ds:map(list, options) makes of the handle of a data set.
function List:native_map(dataset, workers, seed) return core.imaging.map(dataset, self.handle, workers, seed) end

--- Options of decoding as numbers: channels, height, width.
function M.wanted(owner, o)
  local channels, least = o.channels or 0, o.at_least or { 0, 0 }
  if channels ~= 0 and channels ~= 1 and channels ~= 3 and channels ~= 4 then
    options.raise(("%s: channels must be 1, 3, 4 or false, got %s"):format(owner, options.shown(o.channels)))
  end
  local height, width = math.tointeger(least[1]), math.tointeger(least[2] or least[1])
  if not height or not width or height < 0 or width < 0 or height > 2 ^ 28 or width > 2 ^ 28 then
    options.raise(owner .. ": at_least must be {height, width}")
  end
  return { channels, height, width }
end

return M
