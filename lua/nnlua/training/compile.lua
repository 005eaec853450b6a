--- compile: how a model is to be trained and judged. A method of every module.
--
-- Owns: which loss, weight and metrics each output has, in whatever form they were given, and the names of the figures. The result is
-- `model.compiled`: { optimizer =, outputs =, targets = list of { name =, output = }, meters = all of them, the loss first, names = theirs,
-- jit = boolean, observed = true while a callback must see the layers run (then nothing is replayed) }; an output is { name =, loss =,
-- loss_name =, from_logits =, weight =, meters = list, weighted = list of meters that heed weights, meter = of the loss }.

local options = require "nnlua.options"
local Module = require "nnlua.module"
local losses = require "nnlua.losses"
local metrics = require "nnlua.metrics"
local optim = require "nnlua.optim"

local is_plain = options.is_plain
local compile = {}

local compile_spec = {
  optimizer = { "string|table", position = 1, default = "adam" },
  loss = { "string|function|table", position = 2, required = true },
  from_logits = { "boolean|table" },
  loss_weights = { "number|table" },
  metrics = { "table|string|function", default = {} },
  weighted_metrics = { "table|string|function", default = {} },
  jit = { "boolean", default = false },
}

-- Does any layer? Then gradients vanish without a loss scale.
local function computes_in_f16(module)
  if rawget(module, "compute_dtype") == "f16" then return true end
  for _, child in ipairs(module:children()) do
    if computes_in_f16(child[2]) then return true end
  end
  return false
end

-- What `value` says of each output, by place: one value for all, a list, or a table by the names of outputs.
local function per_output(what, value, names, is_one)
  local list = {}
  if value == nil or not is_plain(value) or is_one(value) then
    for i in ipairs(names) do list[i] = value end
    return list
  end
  local known = {}
  for i, name in ipairs(names) do known[name] = i end
  for key, item in next, value do
    local i = known[key] or math.type(key) == "integer" and key
    if not i then
      options.raise(("compile: %s: there is no output %s%s (outputs: %s)"):format(what, options.shown(key),
        options.advice(key, names), table.concat(names, ", ")))
    end
    list[i] = item or nil
  end
  if #value > 0 and #value ~= #names then
    options.raise(("compile: %s: a list needs one for each output (%s), got %d; false for none"):format(what, table.concat(names, ", "), #value))
  end
  return list
end

-- { "huber", delta = 2 }, or what losses.get gave for files: one loss with options.
local function is_loss(value)
  for key in next, value do
    if type(key) == "string" and (value[1] or value.name) then return true end
  end
  return false
end

local function is_metric(value) return type(value[1]) == "string" and next(value, #value) ~= nil or value.class_name ~= nil end
local function never() return false end

-- The metrics of one output: a list of meters.
local function meters_of(given)
  local list = {}
  if given == nil then return list end
  local specs = is_plain(given) and not given.update and not is_metric(given) and given or { given }
  for i, spec in ipairs(specs) do list[i] = metrics.get(spec, i) end
  return list
end

-- One output of the model: how it is judged. `name` is nil when it is the only one.
local function new_output(name, loss, from_logits, weight, meters, weighted)
  local output = { name = name, weight = weight or 1, meters = meters, weighted = weighted, from_logits = from_logits }
  if type(output.weight) ~= "number" then options.raise("compile: loss_weights must be numbers, got " .. options.shown(weight)) end
  if loss ~= nil then output.loss, output.loss_name = losses.get(loss, from_logits) end
  return output
end

-- What was given for a model with one output, which may have a name all the same.
local function compile_output(o, name)
  local loss, weight, logits = o.loss, o.loss_weights, o.from_logits
  if is_plain(loss) and not is_loss(loss) and type(loss[1]) ~= "string" then loss = loss[name] or loss[1] or loss end
  if type(weight) == "table" then weight = weight[1] or weight[name] end
  if type(logits) == "table" then logits = logits[name] end
  local function own(given) return is_plain(given) and name and given[name] or given end
  return new_output(nil, loss, logits, weight, meters_of(own(o.metrics)), meters_of(own(o.weighted_metrics)))
end

local function compile_outputs(o, names)
  if #names < 2 then return { compile_output(o, names[1]) } end
  local function metrics_for(key)
    return per_output(key, o[key], names, function(value) return next(value) == nil or is_metric(value) end)
  end
  local loss, logits = per_output("loss", o.loss, names, is_loss), per_output("from_logits", o.from_logits, names, never)
  local weights, given, weighted = per_output("loss_weights", o.loss_weights, names, never), metrics_for "metrics", metrics_for "weighted_metrics"
  local list, judged = {}, false
  for i, name in ipairs(names) do
    list[i] = new_output(name, loss[i], loss[i] and logits[i], weights[i], meters_of(given[i]), meters_of(weighted[i]))
    judged = judged or loss[i] ~= nil
  end
  if not judged then options.raise "compile: no output has a loss" end
  return list
end

--- Say how to train: `model:compile{ optimizer = nn.optim.Adam{lr = 1e-3}, loss = "sparse_categorical_crossentropy", from_logits = true,
--- metrics = {"accuracy"} }`. Returns self.
---
--- A model of several outputs takes one loss for all, a list, or a table by their names (`model.output_names`); likewise metrics, loss_weights and
--- from_logits: `loss = { kind = "sparse_categorical_crossentropy", price = "mse" }, loss_weights = { price = 0.1 },
--- metrics = { kind = "accuracy" }`. Figures are then called loss, kind_loss, price_loss, kind_accuracy. Your own module with several results
--- names them in `self.output_names`.
---
--- weighted_metrics heed the weights of samples and classes that fit is given, and the masks of predictions; metrics count all samples alike. One
--- that is in both lists is called weighted_accuracy there. `jit = true` replays the steps of training (nn.jit): worth it where a step is many
--- small operators.
---@param given table
---@return nnlua.Module
function Module:compile(given)
  local o = options.check("compile", given, compile_spec)
  local outputs = compile_outputs(o, rawget(self, "output_names") or {})
  local meters, names, taken, targets = { metrics.Mean { name = "loss" } }, { "loss" }, { loss = true }, {}
  local function add(meter, name)
    if taken[name] then options.raise(("compile: two metrics are called %q"):format(name)) end
    taken[name] = true
    meters[#meters + 1], names[#names + 1] = meter, name
  end
  for _, output in ipairs(outputs) do
    if output.name and output.loss then
      output.meter = metrics.Mean { name = output.name .. "_loss" }
      add(output.meter, output.meter.name)
    end
  end
  local function in_output(output, name) return output.name and output.name .. "_" .. name or name end
  for i, output in ipairs(outputs) do
    for _, meter in ipairs(output.meters) do add(meter, in_output(output, meter.name)) end
    for _, meter in ipairs(output.weighted) do
      local name = in_output(output, meter.name)
      add(meter, taken[name] and in_output(output, "weighted_" .. meter.name) or name)
    end
    if output.loss or #output.meters + #output.weighted > 0 then
      targets[#targets + 1] = { name = output.name or (rawget(self, "output_names") or {})[1], output = i }
    end
  end
  local optimizer = optim.get(o.optimizer)
  if optimizer.loss_scale == nil and computes_in_f16(self) then optimizer:use_loss_scale "dynamic" end
  rawset(self, "compiled", { optimizer = optimizer, outputs = outputs, targets = targets, meters = meters, names = names, jit = o.jit })
  return self
end

--- What compile() left; raises when the model was not compiled.
function compile.compiled(self, what)
  local c = rawget(self, "compiled")
  if not c then options.raise(("%s: compile the model first: model:compile{ optimizer = ..., loss = ... }"):format(what)) end
  return c
end

return compile
