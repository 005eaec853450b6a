-- lua/nnlua/torch_weights.lua: files that PyTorch's weights and predictions came from (golden/make_torch.py), and back.
local nn = require "nnlua"
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local golden = here .. "golden/torch/"

local models = {
  mlp = function()
    return nn.Sequential { nn.Input { 6 }, nn.Dense { 5, activation = "relu" }, nn.LayerNorm { epsilon = 1e-5 }, nn.Dense { 3 } }
  end,
  cnn = function()
    return nn.Sequential { nn.Input { 8, 6, 3 }, nn.Conv2D { 4, 3 }, nn.BatchNorm { epsilon = 1e-5 }, nn.ReLU {},
      nn.DepthwiseConv2D { 3, depth_multiplier = 2, padding = "same" }, nn.MaxPooling2D { 2 },
      nn.Conv2DTranspose { 3, 2, strides = 2 }, nn.Flatten {},
      nn.BatchNorm { epsilon = 1e-5 }, nn.Dense { 5 } }
  end,
  rnn = function()
    return nn.Sequential { nn.Input { 7, 3 }, nn.Bidirectional { nn.LSTM { 4, return_sequences = true } }, nn.GRU { 5 }, nn.Dense { 2 } }
  end,
}
local names = { rnn = { bidirectional = "rnn", gru = "gru", dense = "head" } }
local function farthest(a, b) return (a - b):abs():max():item() end

describe("PyTorch's weights", function()
  local file = os.tmpname() .. ".safetensors"
  teardown(function() os.remove(file) end)

  for name, make in pairs(models) do
    it("of " .. name .. " give PyTorch's predictions, and are written as they were read", function()
      local io = assert(nn.safetensors.load(golden .. name .. ".io.safetensors"))
      local model, other = make(), make()
      assert.truthy(farthest(model:predict(io.x), io.y) > 1e-2)
      assert(model:load_weights(golden .. name .. ".safetensors", { names = names[name] }))
      assert.truthy(farthest(model:predict(io.x), io.y) < 1e-5)
      local theirs = assert(nn.safetensors.load(golden .. name .. ".safetensors"))
      local place = names[name]
      if not place then -- nn.Sequential's numbers
        local numbers, seen = {}, {}
        for key in pairs(theirs) do
          local n = math.tointeger(tonumber(key:match "^%d+"))
          if not seen[n] then numbers[#numbers + 1], seen[n] = n, true end
        end
        table.sort(numbers)
        place = {}
        for _, w in ipairs(model:weights()) do place[w.name:match "^[^%.]+"] = true end
        local i = 0
        for _, child in ipairs(model:children()) do
          if place[child[1]] then
            i = i + 1
            place[child[1]] = tostring(numbers[i])
          end
        end
      end
      assert(model:save_weights(file, { names = place }))
      local ours = assert(nn.safetensors.load(file))
      for key, t in pairs(theirs) do
        assert.same(t:shape(), ours[key]:shape(), key)
        if not key:find "^rnn%.bias_" then assert.equal(0, farthest(t, ours[key]), key) end -- an LSTM's two biases are one here
      end
      for key in pairs(ours) do assert.truthy(theirs[key], key) end
      assert(other:load_weights(file, { names = place }))
      assert.equal(0, farthest(model:predict(io.x), other:predict(io.x)))
    end)
  end

  it("are written under our names when none are given", function()
    local model, other = models.mlp(), models.mlp()
    assert(model:save_weights(file))
    assert(other:load_weights(file))
    for i, w in ipairs(model:weights()) do assert.equal(0, farthest(w.tensor, other:weights()[i].tensor)) end
    assert.same({ 5, 6 }, assert(nn.safetensors.open(file)).shapes["dense.weight"])
  end)

  it("that do not fit name the first difference and change nothing", function()
    local model = nn.Sequential { nn.Input { 6 }, nn.Dense { 4 }, nn.LayerNorm {}, nn.Dense { 3 } }
    local before = model[2].kernel:sum():item()
    local function refused(word, given, path)
      local ok, message = model:load_weights(path or golden .. "mlp.safetensors", given)
      assert.is_nil(ok)
      assert.truthy(message:find(word, 1, true), message)
      assert.equal(before, model[2].kernel:sum():item())
    end
    refused "0.weight is 5x6 in the file, dense is 4x6"
    refused("has no a.weight", { names = { dense = "a", layer_normalization = "b", dense_1 = "c" } })
    refused("modules", nil, golden .. "cnn.safetensors")
    refused("No such file", nil, "/nonexistent/x.safetensors")
    assert.error_matches(function() model:load_weights(golden .. "mlp.safetensors", { names = { dense = "0" } }) end, "gives no name")
    assert.error_matches(function() model:load_weights(golden .. "mlp.safetensors", { name = {} }) end, "names")
    assert.error_matches(function() model:load_weights(golden .. "mlp.safetensors", { flatten = { x = { 1, 1, 1 } } }) end, "no layer")
    local small = models.mlp()
    assert(small:save_weights(file))
    local tensors = assert(nn.safetensors.load(file))
    tensors.extra = nn.ones(1)
    assert(nn.safetensors.save(file, tensors))
    assert.truthy(select(2, small:load_weights(file)):find("holds extra", 1, true))
  end)
end)
