-- What recurrent_layers_spec and attention_layers_spec share: layers against golden values, and files.
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")

local it, assert = ... -- busted's, which a file that a spec loads does not see
local sequence = {}

local function tensor(entry) return nn.tensor(entry[2], { dtype = "f32" }):reshape(entry[1]) end

-- The layer, inputs and results of a case; weights are bound by name, and there are no others.
local function computed(case)
  local env, inputs = { nn = nn }, {}
  for name, entry in pairs(case.inputs) do
    inputs[name] = nn.parameter(tensor(entry))
    env[name] = inputs[name]
  end
  env.layer = assert(load("return " .. case.layer, "=golden", "t", env))()
  local results = { assert(load("return " .. case.call, "=golden", "t", env))() }
  local weights = env.layer:weights()
  assert.equal(#case.weights, #weights)
  for i, w in ipairs(weights) do
    assert.equal(case.weights[i][1], w.name)
    assert.same(case.weights[i][2][1], w.tensor:shape())
    w.tensor:assign(tensor(case.weights[i][2]))
    inputs[w.name] = w.tensor
  end
  return env.layer, { assert(load("return " .. case.call, "=golden", "t", env))() }, inputs, #results
end

--- One test for each case of the file whose name `wanted` accepts; there must be `count` of them.
function sequence.golden(file, wanted, count)
  local found = 0
  for _, case in ipairs(dofile(file)) do
    if wanted(case.name) then
      found = found + 1
      it(case.name, function()
        local layer, results, leaves = computed(case)
        assert.equal(#case.outputs, #results)
        local total = nn.tensor(0)
        for i, entry in ipairs(case.outputs) do
          assert.same(entry[1], results[i]:shape())
          support.close(entry[2], results[i], 2e-6, "result " .. i)
          total = total + (results[i] * tensor(case.cotangents[i])):sum()
        end
        total:backward()
        local seen = 0
        for name, entry in pairs(case.grads) do
          seen = seen + 1
          support.close(entry[2], assert(leaves[name]:grad(), name), 1e-5, "gradient of " .. name)
        end
        assert.is_true(seen >= 2 and tostring(layer):find("\n", 1, true) == nil)
      end)
    end
  end
  it("has all of them", function() assert.equal(count, found) end)
end

--- A Sequential of `layers` saved and loaded is the same model to the bit, has the same configuration, and tells its shape without running.
function sequence.round_trip(layers, x)
  local model = nn.Sequential(layers):eval()
  local y = model(x)
  local shape = x:shape()
  assert.same(table.move(y:shape(), 2, y:dim(), 1, {}), model:output_shape(table.move(shape, 2, #shape, 1, {})))
  local file = os.tmpname()
  assert(model:save(file))
  local copy = assert(nn.load(file)):eval()
  os.remove(file)
  assert.same(y:totable(), copy(x):totable())
  assert.equal(tostring(model), tostring(copy))
  for i = 1, #model do
    assert.same(nn.options.shown(model[i]:config()), nn.options.shown(copy[i]:config()))
    assert.same(model[i]:config(), copy[i]:config())
  end
end

return sequence
