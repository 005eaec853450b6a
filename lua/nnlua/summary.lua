--- What a model looks like: `model:summary()`, and pictures: `model:draw("model.svg")`. Methods of every module.
--
-- Owns: the table of layers, and what of a model is drawn. The drawing itself is nnlua.graph's.
--
--     local nn = require "nnlua"
--     local a = nn.Input{8}
--     local h = nn.Dense{8, activation = "relu"}(a)
--     local model = nn.Model{ inputs = a, outputs = nn.Dense{2}(h + a) }
--     model:summary()
--     print(model:dot():sub(1, 13), #model:call_list())   --> digraph nnlua  4

local options = require "nnlua.options"
local Module = require "nnlua.module"
local symbolic = require "nnlua.symbolic"

-- The calls of a model in order, or nil for a module whose forward is the user's.
local function calls_of(model)
  return model.call_list and model:call_list() or nil
end

local function grouped(n) return (("%d"):format(n):reverse():gsub("(%d%d%d)", "%1,"):reverse():gsub("^,", "")) end

local function own_count(module)
  local trainable, other = module:count_params()
  return trainable + other
end

-- Operations on numbers that a call takes for one sample; nil when that cannot be told. The call is run.
local function flops_of(node)
  if #node.symbols == 0 then return 0 end
  local graph = require "nnlua.graph"
  local ok, captured = pcall(function()
    local values = symbolic.arguments(node, 1)
    return graph.graph(function() return table.unpack(symbolic.call(node, values)) end)
  end)
  return ok and captured.flops or nil
end

-- One entry per layer: { name, layer, sample, flops, from = names }.
local function rows_of(model, with_flops)
  local list, by_layer = {}, {}
  for i, child in ipairs(model:children()) do
    local row = { name = child[1], layer = child[2], sample = model.sizes and model.sizes[i] or rawget(child[2], "output_size"), from = {} }
    list[i] = row
    if not by_layer[child[2]] then by_layer[child[2]] = row end
  end
  for _, call in ipairs(calls_of(model) or {}) do
    local row = by_layer[call.layer]
    if call.call == 1 then row.sample = call.node.results[1].sample end
    local flops = with_flops and flops_of(call.node)
    if flops then row.flops = (row.flops or 0) + flops end
    for _, at in ipairs(call.from) do row.from[#row.from + 1] = at.layer.name end
  end
  return list
end

local function table_text(rows, right)
  local widths, lines, total = {}, {}, 0
  for _, row in ipairs(rows) do
    for c = 1, #row do widths[c] = math.max(widths[c] or 0, #row[c]) end
  end
  for _, w in ipairs(widths) do total = total + w + 2 end
  for i, row in ipairs(rows) do
    local words = {}
    for c = 1, #row do words[c] = (right[c] and "%" or "%-") .. widths[c] .. "s" end
    lines[#lines + 1] = (table.concat(words, "  "):format(table.unpack(row)):gsub("%s+$", ""))
    if i == 1 then lines[#lines + 1] = ("-"):rep(total - 2) end
  end
  lines[#lines + 1] = ("-"):rep(total - 2)
  return lines
end

local spec = { flops = { "boolean", default = true } }

--- A table of layers, output shapes, numbers of parameters, operations for one sample (FLOPs), and, of an nn.Model, where inputs come from; as text.
--- FLOPs are counted by running each layer on one sample; `flops = false` leaves them out.
---@param given? { flops?: boolean }
---@return string
function Module:summary_text(given)
  local o = options.check("summary", given, spec)
  local list, rows, total, counted = rows_of(self, o.flops), { { "Layer", "Output shape", "Parameters" } }, 0, false
  local amount = require("nnlua.graph").amount
  for _, row in ipairs(list) do
    total, counted = total + (row.flops or 0), counted or row.flops ~= nil
  end
  local connected = self.reference ~= nil
  if counted then rows[1][4] = "FLOPs" end
  if connected then rows[1][#rows[1] + 1] = "Connected to" end
  for _, row in ipairs(list) do
    local cells = { ("%s (%s)"):format(row.name, getmetatable(row.layer).__name), row.sample and symbolic.shape_text(row.sample) or "?",
      row.layer:first_unbuilt() and "?" or grouped(own_count(row.layer)) }
    if counted then cells[4] = row.flops and amount(row.flops, "") or "?" end
    if connected then cells[#cells + 1] = table.concat(row.from, ", ") end
    rows[#rows + 1] = cells
  end
  local lines = table_text(rows, { false, false, true, counted })
  local trainable, other = self:count_params()
  lines[#lines + 1] = ("%s parameters: %s trained, %s not"):format(grouped(trainable + other), grouped(trainable), grouped(other))
  if self:first_unbuilt() then
    lines[#lines] = "not built yet: begin with nn.Input{...}, or call model:build{sizes of one sample}"
  elseif counted then
    lines[#lines] = ("%s; %s for one sample"):format(lines[#lines], amount(total, "FLOP"))
  end
  return table.concat(lines, "\n")
end

--- Print the summary. Returns self.
---@param given? { flops?: boolean }
function Module:summary(given)
  io.stdout:write(self:summary_text(given), "\n")
  return self
end

-- ---- pictures --------------------------------------------------------------------------------------------------------

-- The calls as what nnlua.graph draws: one box each.
local function picture(model, what)
  local calls = calls_of(model)
  if not calls then
    options.raise(("%s: %s has no graph of layers; nn.Model and a built nn.Sequential have. nn.graph(fn, x) draws what any function computes")
      :format(what, getmetatable(model).__name))
  end
  local place, run = {}, { nodes = {}, units = {} }
  for i, call in ipairs(calls) do
    place[call.layer] = place[call.layer] or {}
    place[call.layer][call.call] = i
    local inputs = {}
    for k, at in ipairs(call.from) do inputs[k] = place[at.layer][at.call] end
    local again = call.call > 1 and (" (call %d)"):format(call.call) or ""
    run.units[i] = { name = call.layer.name .. again, fill = own_count(call.layer) > 0 and "#fdf1dc" or "#e8f1fb" }
    local class, shape = getmetatable(call.layer).__name, symbolic.shape_text(call.node.results[1].sample)
    run.nodes[i] = { op = class .. " " .. shape, label = class .. "\n" .. shape, unit = i, inputs = inputs, shape = call.node.results[1].sample }
  end
  return require("nnlua.graph").picture(run)
end

--- The model in the DOT language (Graphviz): a box for each call of a layer.
---@return string
function Module:dot() return picture(self, "dot"):dot() end

--- The model as an SVG picture; layers with weights are orange.
---@return string
function Module:svg() return picture(self, "svg"):svg() end

--- Draw the model into a file: `model:draw "model.svg"`, or "model.dot" for Graphviz. True, or nil and a message.
---@param file string
---@return true?, string?
function Module:draw(file)
  local kind = type(file) == "string" and file:match "%.(%w+)$"
  if kind ~= "svg" and kind ~= "dot" and kind ~= "gv" then
    options.raise("draw: needs the name of a file that ends in .svg or .dot, got " .. options.shown(file))
  end
  local text = kind == "svg" and self:svg() or self:dot()
  local f, message = io.open(file, "w")
  if not f then return nil, message end
  local ok, why = f:write(text)
  local closed, late = f:close()
  if not (ok and closed) then return nil, why or late end
  return true
end

return true
