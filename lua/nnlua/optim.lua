--- Optimizers: `nn.optim`. How gradients change parameters.
--
-- Owns: which optimizers there are, and finding them by name. An optimizer is made for a model that compile() will give it, or by hand with the
-- parameters first:
--
--     local nn = require "nnlua"
--     local w = nn.parameter{ 3 }
--     local opt = nn.optim.SGD{ {w}, lr = 0.1 }
--     for _ = 1, 20 do
--       local loss = (w * w):sum()
--       opt:zero_grad()
--       loss:backward()
--       opt:step()
--     end
--     print(("%.4f"):format(w:item()))              --> 0.0346
--
-- A step runs what is pending, so memory stays bounded in any loop. Parameters without a gradient are left as they are. All of them take
-- weight_decay; one of clipnorm, clipvalue and global_clipnorm; use_ema with ema_momentum; gradient_accumulation_steps;
-- loss_scale (nnlua.optim.scale); and a learning rate that is a
-- number, a schedule (nn.schedules) or a function of the number of steps taken.

local class = require "nnlua.class"
local options = require "nnlua.options"
local Optimizer = require "nnlua.optim.base"

local optim = { Optimizer = Optimizer }
for _, file in ipairs { "momentum", "adaptive", "adam", "matrix", "lbfgs", "cg" } do
  for name, value in pairs(require("nnlua.optim." .. file)) do
    if type(value) == "table" then optim[name] = value end
  end
end

--- The optimizer of `spec`: an optimizer, a name ("adam"), or what config() gave.
---@param spec string|table
---@return nnlua.Optimizer
function optim.get(spec)
  if class.isa(spec, Optimizer) then return spec end
  local name, config = spec, {}
  if type(spec) == "table" and type(spec.class_name) == "string" then name, config = spec.class_name, spec.config or {} end
  if type(name) == "string" then
    local names = {}
    for key, c in pairs(optim) do
      if type(c) == "table" and c ~= Optimizer then
        names[#names + 1] = key
        if key:lower() == name:lower() then
          local given = {}
          for k, value in pairs(config) do
            local own = c.aliases[k] or k
            if c.options[own] and own ~= "parameters" and type(value) ~= "userdata" then given[own] = value end
          end
          return c(given)
        end
      end
    end
    table.sort(names)
    options.raise(("unknown optimizer %q%s (valid: %s)"):format(name, options.advice(name, names), table.concat(names, ", ")))
  end
  options.raise("an optimizer must be a name or an object such as nn.optim.Adam{lr = 1e-3}, got " .. options.shown(spec))
end

return options.closed(optim, "nn.optim")
