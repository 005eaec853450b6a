-- The whole library of layers, one row and more for each that nn has: values and gradients as PyTorch computed them (golden/layers.lua,
-- golden/sequence.lua, with their generators), shapes told without running, configurations, files. A layer without a row fails.
local nn = require "nnlua"
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local support = dofile(here .. "support.lua")
local close, flat = support.close, support.flat

local function tensor(t) return nn.tensor(t[2], { dtype = "f32" }):reshape(t[1]) end
local function sample(shape) return table.move(shape, 2, #shape, 1, {}) end
local function evaluate(code, env) return assert(load("return " .. code, "=" .. code, "t", env))() end

-- ---- rows ------------------------------------------------------------------------------------------------------------

-- Both files as rows of one form: { title, layer, call, names, values, weights, outputs, cotangents, grads, input_grads, tolerances }.
local rows = {}
for _, c in ipairs(dofile(here .. "golden/layers.lua")) do
  local row = { title = c.layer, layer = c.layer, names = {}, values = {}, weights = c.weights, outputs = { c.output }, cotangents = { c.cotangent },
    training = c.training, grads = {}, near = { 2e-5, 1e-4 } }
  for i, entry in ipairs(c.inputs) do
    row.names[i] = "x" .. i
    row.values["x" .. i] = entry
    row.grads["x" .. i] = c.input_grads[i] or nil
  end
  row.call = ("layer(%s)"):format(table.concat(row.names, ", "))
  for name, entry in pairs(c.grads) do row.grads[name] = entry end
  rows[#rows + 1] = row
end
for _, c in ipairs(dofile(here .. "golden/sequence.lua")) do
  local row = { title = c.name, layer = c.layer, names = {}, values = c.inputs, weights = {}, outputs = c.outputs, cotangents = c.cotangents,
    grads = c.grads, near = { 2e-6, 1e-5 }, call = c.call }
  for name in pairs(c.inputs) do row.names[#row.names + 1] = name end
  table.sort(row.names)
  for _, w in ipairs(c.weights) do row.weights[w[1]] = w[2] end
  rows[#rows + 1] = row
end

-- What a row's call gives with `layer` and the inputs of the row under their names.
local function called(row, layer, inputs)
  local env = { nn = nn, layer = layer }
  for name, value in pairs(inputs) do env[name] = value end
  return { evaluate(row.call, env) }
end

-- The layer of a row, with its weights; the inputs, which keep gradients; and these and the weights by name.
local function prepared(row)
  local layer, inputs, leaves = evaluate(row.layer, { nn = nn }), {}, {}
  for name, entry in pairs(row.values) do
    inputs[name] = tensor(entry):requires_grad(true)
    leaves[name] = inputs[name]
  end
  called(row, layer, inputs) -- builds it
  layer:train(row.training or false)
  local count = 0
  for _, w in ipairs(layer:weights()) do
    local entry = assert(row.weights[w.name] or not w.trainable and {}, "no value for " .. w.name)
    if entry[1] then
      assert.same(entry[1], w.tensor:shape(), w.name)
      w.tensor:assign(tensor(entry))
      count = count + 1
    end
    leaves[w.name] = w.tensor
  end
  for name in pairs(row.weights) do assert(leaves[name], "the layer has no " .. name) end
  return layer, inputs, leaves, count
end

-- A model of the row's call on Inputs, with the layer's `state`, and the shapes that it has without running.
local function model_of(row, state)
  local layer, inputs, list, shapes = evaluate(row.layer, { nn = nn }), {}, {}, {}
  for i, name in ipairs(row.names) do
    inputs[name] = nn.Input { shape = sample(row.values[name][1]), name = "in_" .. name }
    list[i] = inputs[name]
  end
  local outputs = called(row, layer, inputs)
  for i, symbol in ipairs(outputs) do shapes[i] = symbol.sample end
  layer:load_state(state)
  return nn.Model { inputs = list, outputs = outputs }, shapes
end

local function outputs_of(model, row, inputs)
  local list = {}
  for i, name in ipairs(row.names) do list[i] = inputs[name]:detach() end
  local out = table.pack(model(table.unpack(list)))
  return type(out[1]) == "table" and out[1] or out
end

local function same(want, got)
  assert.equal(#want, #got)
  for i, y in ipairs(want) do close(y, got[i], 0) end -- to the bit
end

describe("values and gradients of", function()
  for _, row in ipairs(rows) do
    it(row.title, function()
      local layer, inputs, leaves = prepared(row)
      local results = called(row, layer, inputs)
      assert.equal(#row.outputs, #results)
      local total
      for i, want in ipairs(row.outputs) do
        assert.same(want[1], results[i]:shape())
        close(want[2], results[i], row.near[1], "result " .. i)
        if results[i]:requires_grad() then
          local part = (results[i] * tensor(row.cotangents[i])):sum()
          total = total and total + part or part
        end
      end
      if total then total:backward() end
      for name, want in pairs(row.grads) do
        local got = leaves[name]:grad()
        if got then
          close(want[2], got, row.near[2], "gradient of " .. name)
        else -- what counts or looks up ids has none
          for _, v in ipairs(flat(want[2])) do assert(v == 0, "no gradient of " .. name) end
        end
      end
    end)
  end
end)

describe("a configuration makes the same layer:", function()
  for _, row in ipairs(rows) do
    it(row.title, function()
      local layer, inputs = prepared(row)
      local class = getmetatable(layer)
      local copy = class.from_config(class, layer:config())
      called(row, copy, inputs)
      assert.equal(tostring(layer), tostring(copy))
      assert.same(layer:config(), copy:config())
      copy:load_state(layer:state())
      same(called(row, layer:eval(), inputs), called(row, copy:eval(), inputs))
    end)
  end
end)

-- A cell gives its states as a list, which no graph holds: it is walked by an RNN.
local function walk(row, layer)
  local copy = nn.RNN { evaluate(row.layer, { nn = nn }) }
  local model, x = nn.Sequential { nn.Input { 2, 3 }, copy }, nn.randn(4, 2, 3)
  copy.cell:load_state(layer:state())
  return model, { copy.cell:output_shape { 3 } }, { x1 = x }, { names = { "x1" }, outputs = { { { 4, 5 } } } }
end

describe("shapes are told without running, and a file holds", function()
  for _, row in ipairs(rows) do
    it(row.title, function()
      local layer, inputs = prepared(row)
      local model, shapes
      if layer.initial_state then
        model, shapes, inputs, row = walk(row, layer)
      else
        model, shapes = model_of(row, layer:state())
      end
      for i, want in ipairs(row.outputs) do assert.same(sample(want[1]), shapes[i], "output " .. i) end
      local file = os.tmpname()
      assert(model:save(file))
      local again = assert(nn.load(file))
      os.remove(file)
      assert.equal(tostring(model), tostring(again))
      same(outputs_of(model:eval(), row, inputs), outputs_of(again:eval(), row, inputs))
    end)
  end
end)

-- ---- what is drawn in training ---------------------------------------------------------------------------------------

describe("in training the gradient is that of the draw:", function()
  local shapes = { SpatialDropout2D = { 2, 3, 3, 4 }, SpatialDropout3D = { 2, 2, 3, 2, 4 } }
  -- name -> the layer and, from x and y (numbers), dy/dx
  local function factor(x, y) return y / x end
  local drawn = {
    Dropout = { { 0.5 }, factor }, SpatialDropout1D = { { 0.5 }, factor }, SpatialDropout2D = { { 0.5 }, factor },
    SpatialDropout3D = { { 0.5 }, factor }, DropPath = { { 0.5 }, factor }, GaussianDropout = { { 0.5 }, factor }, RReLU = { {}, factor },
    GaussianNoise = { { 0.5 }, function() return 1 end },
    AlphaDropout = { { 0.4 }, function(x, y) -- Klambauer et al.: a x + b where kept, a constant elsewhere
      local low = -1.7580993408473766
      local a = (0.6 * (1 + 0.4 * low ^ 2)) ^ -0.5
      return math.abs(y - (a * x - a * low * 0.4)) < 1e-5 and a or 0
    end },
  }
  for name, case in pairs(drawn) do
    it(name, function()
      local shape = shapes[name] or { 6, 5, 4 }
      local x = (nn.randn(table.unpack(shape)):abs() + 0.1):detach() * nn.where(nn.rand(table.unpack(shape)):gt(0.5), 1, -1)
      x = x:detach():requires_grad(true)
      local cot = nn.randn(table.unpack(shape))
      local y = nn[name](case[1])(x)
      y:backward(cot)
      local xs, ys, cots, want, other = flat(x:totable()), flat(y:totable()), flat(cot:totable()), {}, false
      for i, v in ipairs(xs) do
        want[i] = cots[i] * case[2](v, ys[i])
        other = other or math.abs(v - ys[i]) > 1e-3
      end
      assert(other, "nothing was drawn")
      close(want, x:grad(), 1e-4)
    end)
  end
end)

-- ---- nothing is left out ---------------------------------------------------------------------------------------------

-- Layers that need no row: why.
local exempt = { Layer = "the base class", Lambda = "any function; conv_layers_spec",
  TextVectorization = "takes texts, no tensors; text_spec", StringLookup = "takes strings; lookup_spec",
  ConvLSTM1D = "against ConvLSTM2D's; recurrent_layers_spec", ConvLSTM3D = "against ConvLSTM2D's; recurrent_layers_spec",
  IntegerLookup = "a table's look-up, which PyTorch has not; lookup_spec" }

it("every layer of nn has a row", function()
  local rowed, count, missing = {}, 0, {}
  for _, row in ipairs(rows) do
    for name in row.layer:gmatch "nn%.(%w+)" do rowed[nn[name]] = true end
  end
  for name, value in pairs(nn) do
    if type(value) == "table" and rawget(value, "__index") == value and nn.class.isa and value.options and value.forward then
      count = count + 1
      if not rowed[value] and not exempt[name] then missing[#missing + 1] = name end
    end
  end
  table.sort(missing)
  assert.equal("", table.concat(missing, " "))
  assert(count >= 149, ("only %d layers were found"):format(count))
end)
