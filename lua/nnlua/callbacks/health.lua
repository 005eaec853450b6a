--- Health: is every layer alive? Dead units, saturation, sizes of gradients and weights, per layer.
--
-- Owns: what is measured of a layer and when it is called ill. Every `every`-th batch is looked at: while it runs, the results of layers whose
-- activation is ReLU, sigmoid or tanh; after its step, the gradients. Other batches cost nothing. A table is written after each epoch;
-- health:plot() draws how its figures went, the TensorBoard callback takes them with `health =`.
--
--     local nn = require "nnlua"
--     nn.seed(1)
--     local x, y = nn.uniform({ 32, 4 }), nn.zeros(32, 1)
--     local dead = nn.Dense{8, activation = "relu", bias_initializer = nn.initializers.constant{-9}}
--     local model = nn.Sequential{ nn.Input{4}, dead, nn.Dense{1} }
--     model:compile{ optimizer = "sgd", loss = "mse" }
--     local health = nn.callbacks.Health{ every = 1, write = function() end }
--     model:fit{ x, y, epochs = 1, batch_size = 8, verbose = 0, callbacks = { health } }
--     print(health.rows[1].name, health.rows[1].dead)   --> dense  1.0
--     print(health.rows[1].flags[1])                --> 100 % dead: lower the learning rate, or try leaky_relu

local core = require "nnlua.core"
local options = require "nnlua.options"
local plot = require "nnlua.plot"
local activations = require "nnlua.activations"
local base = require "nnlua.callbacks.base"

--- Options: every (batches between looks), batches (a unit is dead when it did not fire in so many looks), write (takes the table's text; standard
--- error), and the limits dead, saturated (shares of units), vanishing (a layer's gradient per element, relative to the largest of all layers) and
--- exploding (norm of the gradient over norm of the weights). `rows` holds the last table: name, dead, saturated, gradient, weight, ratio, flags;
--- `epochs` the tables of all epochs. health:plot() draws gradients, ratios, dead and saturated shares by epoch; health:plot{ "weight" } one figure;
--- health:draw "health.svg" writes the charts.
---@class nnlua.Health: nnlua.Callback
---@overload fun(options?: { every?: integer, batches?: integer, write?: function }): nnlua.Health
local Health = base.define("Health", {
  every = { "integer", default = 50, min = 1 }, batches = { "integer", default = 10, min = 1 }, write = { "function" },
  dead = { "number", default = 0.4, above = 0 }, saturated = { "number", default = 0.8, above = 0 },
  vanishing = { "number", default = 1e-4, above = 0 }, exploding = { "number", default = 10, above = 0 },
})

-- ---- results of layers -----------------------------------------------------------------------------------------------

-- Per activation: what is recorded of a result y, given the watch of the layer.
local observers = {}

-- How many looks ago each unit (an element of the last dim) fired.
function observers.relu(watch, y)
  local dims = {}
  for i = 1, y:dim() - 1 do dims[i] = i end
  local fired = y:amax(dims):gt(0)
  if not watch.since then
    watch.since = fired:zeros_like("f32")
    watch.since:keep()
  end
  watch.since:assign(core.where(fired, 0, watch.since + 1))
end

-- The share of elements that are near the ends of the range.
local function saturation(low, high)
  return function(watch, y)
    if not watch.share then
      local _ <close> = core.here(y)
      watch.share = core.zeros {}
      watch.share:keep()
    end
    watch.share:assign((y:lt(low):float() + y:gt(high):float()):mean())
  end
end
observers.sigmoid, observers.tanh = saturation(0.01, 0.99), saturation(-0.99, 0.99)

-- A layer is what has no layers in it, or walks over steps with a cell.
local function is_layer(module) return #module:children() == 0 or rawget(module, "cell") ~= nil end

local function observer_of(module)
  if getmetatable(module).__name == "ReLU" then return observers.relu end
  local _, name = activations.get(rawget(rawget(module, "cell") or module, "activation"))
  return observers[name]
end

-- Puts a function in front of the layer's forward.
local function attach(self, module, watch, observe)
  local forward = module.forward
  rawset(module, "forward", function(layer, ...)
    local y = forward(layer, ...)
    if self.looking and layer.training and core.is_tensor(y) then
      local _ <close> = core.no_grad()
      observe(watch, y:detach())
    end
    return y
  end)
end

function Health:on_train_begin(model)
  self.watches, self.looks, self.rows, self.epochs = {}, 0, {}, {}
  local within = {} -- what belongs to a layer
  for _, entry in ipairs(model:modules()) do
    local module = entry[2]
    if is_layer(module) and not within[module] then
      for _, part in ipairs(module:modules()) do within[part[2]] = true end
      local observe = observer_of(module)
      local watch = { name = entry[1], module = module, observed = observe ~= nil }
      if observe then attach(self, module, watch, observe) end
      self.watches[#self.watches + 1] = watch
    end
  end
end

function Health:on_train_end()
  for _, watch in ipairs(self.watches) do
    if watch.observed then rawset(watch.module, "forward", nil) end
  end
end

function Health:on_batch_begin(model, batch)
  self.looking = (batch - 1) % self.every == 0
  model.compiled.observed = self.looking or nil
end

-- ---- gradients -------------------------------------------------------------------------------------------------------

-- The common norm of a list as a pair: its largest element, and the root of the sum of squares in units of that; so squares don't overflow.
local function norm(list)
  local largest, total
  for _, x in ipairs(list) do
    local big = x:abs():amax()
    largest = largest and core.maximum(largest, big) or big
  end
  local unit = core.maximum(largest, 1e-30)
  for _, x in ipairs(list) do
    local sum = (x / unit):square():sum()
    total = total and total + sum or sum
  end
  return unit, total:sqrt()
end

-- Norms of the gradients and of the weights of every layer that has gradients.
function Health:on_batch_end(model)
  if not self.looking then return end
  self.looking, self.looks = false, self.looks + 1
  model.compiled.observed = nil
  local norms = {}
  do
    local _ <close> = core.no_grad()
    local _ <close> = core.scope()
    for _, watch in ipairs(self.watches) do
      local grads, values, count = {}, {}, 0
      for _, w in ipairs(watch.module:named_parameters()) do
        local p, g = w.tensor, w.tensor:grad()
        if g then
          grads[#grads + 1], values[#values + 1], count = g, p:detach(), count + p:numel()
        end
      end
      watch.place, watch.count = nil, count
      if #grads > 0 then
        watch.place = #norms + 1
        local at = #norms
        norms[at + 1], norms[at + 2] = norm(grads)
        norms[at + 3], norms[at + 4] = norm(values)
      end
    end
    if #norms > 0 then
      self.norms = core.stack(norms)
      self.norms:keep()
    end
  end
  core.eval()
end

-- ---- the table -------------------------------------------------------------------------------------------------------

local function percent(share) return ("%.0f %%"):format(share * 100) end

local function judge(self, row, largest)
  local flags = row.flags
  if row.dead and row.dead >= self.dead then
    flags[#flags + 1] = percent(row.dead) .. " dead: lower the learning rate, or try leaky_relu"
  end
  if row.saturated and row.saturated >= self.saturated then
    flags[#flags + 1] = percent(row.saturated) .. " saturated: scale the input, or try relu"
  end
  if not row.gradient then return end
  if row.gradient ~= row.gradient or row.gradient == math.huge or row.weight ~= row.weight then
    flags[#flags + 1] = "exploding: gradient or weights are not finite"
  elseif row.weight == 0 then
    flags[#flags + 1] = "all weights are zero: choose another init"
  elseif row.ratio > self.exploding then
    flags[#flags + 1] = "exploding: clip the gradients (global_clipnorm), or lower the learning rate"
  elseif row.each < self.vanishing * largest then
    flags[#flags + 1] = "vanishing: try relu, he_normal, batch normalization or fewer layers"
  end
end

-- The rows of what was seen last.
local function rows_of(self)
  local norms, rows, largest = self.norms and self.norms:totable() or {}, {}, 0
  for _, watch in ipairs(self.watches) do
    local row = { name = watch.name ~= "" and watch.name or getmetatable(watch.module).__name, flags = {} }
    if watch.since then
      local needed = math.min(self.batches, self.looks)
      row.dead = watch.since:ge(needed):float():mean():item()
    end
    if watch.share then row.saturated = watch.share:item() end
    if watch.place then
      local at = watch.place
      row.gradient, row.weight = norms[at] * norms[at + 1], norms[at + 2] * norms[at + 3]
      row.ratio, row.each = row.gradient / row.weight, row.gradient / math.sqrt(watch.count)
      if row.each < math.huge then largest = math.max(largest, row.each) end
    end
    if row.dead or row.saturated or row.gradient then rows[#rows + 1] = row end
  end
  for _, row in ipairs(rows) do judge(self, row, largest) end
  return rows
end

local function cell(value, form) return value and (form == "%" and percent(value) or ("%.2e"):format(value)) or "-" end

--- The table as text.
function Health:__tostring()
  local width = #"layer"
  for _, row in ipairs(self.rows or {}) do width = math.max(width, #row.name) end
  local form = ("%%-%ds  %%6s  %%9s  %%9s  %%9s  %%9s"):format(width)
  local lines = { form:format("layer", "dead", "saturated", "gradient", "weight", "ratio") }
  for _, row in ipairs(self.rows or {}) do
    lines[#lines + 1] = form:format(row.name, cell(row.dead, "%"), cell(row.saturated, "%"), cell(row.gradient), cell(row.weight), cell(row.ratio))
      .. (#row.flags > 0 and "  ! " .. table.concat(row.flags, "; ") or "")
  end
  return table.concat(lines, "\n")
end

--- Is no layer flagged?
---@return boolean
function Health:ok()
  for _, row in ipairs(self.rows) do
    if #row.flags > 0 then return false end
  end
  return true
end

function Health:on_epoch_end(_, epoch)
  if self.looks == 0 then return end
  self.rows = rows_of(self)
  self.epochs[#self.epochs + 1] = { epoch = epoch, rows = self.rows }
  local text = ("health after epoch %d\n%s\n"):format(epoch, tostring(self))
  if self.write then self.write(text) else io.stderr:write(text) end
end

-- ---- charts ----------------------------------------------------------------------------------------------------------

local figures = { "gradient", "ratio", "weight", "dead", "saturated" }
local logarithmic = { gradient = true, ratio = true, weight = true }

-- A figure by epoch, a line for each layer that has it; nil where none has.
local function chart_of(self, figure)
  local chart, by_name = { title = figure, x = {}, series = {}, log = logarithmic[figure] }, {}
  for i, entry in ipairs(self.epochs or {}) do
    chart.x[i] = entry.epoch
    for _, row in ipairs(entry.rows) do
      if row[figure] and not by_name[row.name] then
        by_name[row.name] = { name = row.name, values = {} }
        chart.series[#chart.series + 1] = by_name[row.name]
      end
      if row[figure] then by_name[row.name].values[i] = row[figure] end
    end
  end
  return #chart.series > 0 and chart or nil
end

plot.give_methods(Health, function(self, what, o)
  local charts = {}
  for _, name in ipairs(o.names) do
    local known = false
    for _, figure in ipairs(figures) do known = known or figure == name end
    if not known then
      options.raise(("%s: there is no figure %q%s (figures: %s)"):format(what, name, options.advice(name, figures),
        table.concat(figures, ", ")))
    end
  end
  for _, figure in ipairs(#o.names > 0 and o.names or figures) do charts[#charts + 1] = chart_of(self, figure) end
  return charts
end)

return { Health = Health }
