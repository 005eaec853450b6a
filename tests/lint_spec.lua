-- lua/nnlua/lint.lua: each rule finds its fault, and is quiet where there is none.
local nn = require "nnlua"
local program = dofile "tests/program.lua"

local function found(model)
  local list = {}
  for i, f in ipairs(model:lint()) do list[i] = f.rule .. " " .. f.layer end
  return list
end

local function net(...) return nn.Sequential { nn.Input { 8 }, ... } end

describe("lint", function()
  it("is quiet about sound models", function()
    local sound = {
      net(nn.Dense { 16, activation = "relu" }, nn.Dropout { 0.2 }, nn.Dense { 3 }),
      net(nn.Dense { 16 }, nn.BatchNorm {}, nn.Activation { "relu" }, nn.Dense { 3, activation = "softmax" }),
      net(nn.Dense { 16 }, nn.BatchNorm {}, nn.LeakyReLU { 0.1 }, nn.Dropout { 0.1 }, nn.Dense { 1, activation = "sigmoid" }),
      net(nn.Dense { 16 }, nn.LayerNorm {}, nn.Dense { 3 }), -- layer norm is not linear
      net(nn.Dense { 6, activation = "relu" }, nn.Dense { 2 }, nn.Dense { 6, activation = "relu" }, nn.Dense { 8 }), -- the code of an autoencoder
      net(nn.Dense { 3, activation = "tanh" }), -- at the output
      nn.Sequential { nn.Input { 8, 8, 1 }, nn.Conv2D { 4, 3 }, nn.BatchNorm {}, nn.ReLU {}, nn.Flatten {}, nn.Dense { 2 }, nn.Softmax {} },
      nn.Sequential { nn.Dense { 4, activation = "gelu" }, nn.Dense { 2 } }, -- not built yet
    }
    for i, model in ipairs(sound) do assert.same({}, found(model), "model " .. i) end
    assert.equal("lint: nothing to remark", tostring(sound[1]:lint()))
  end)

  it("finds saturating activations in hidden layers, not gates and outputs", function()
    assert.same({ "saturating dense" }, found(net(nn.Dense { 9, activation = "sigmoid" }, nn.Dense { 3 })))
    assert.same({ "saturating activation" }, found(net(nn.Dense { 9 }, nn.BatchNorm {}, nn.Activation { "tanh" }, nn.Dropout { 0.1 },
      nn.Dense { 3 })))
    local a = nn.Input { 8 }
    local gate = nn.Dense { 8, activation = "sigmoid" }(a)
    assert.same({}, found(nn.Model { inputs = a, outputs = nn.Dense { 2 }(nn.Dense { 8, activation = "relu" }(a) * gate) }))
    assert.same({ "saturating sigmoid" }, found(nn.Model { inputs = a, outputs = nn.Dense { 2 }(nn.Dense { 9 }(a):sigmoid()) }))
  end)

  it("finds linear layers one after the other, also through models inside models", function()
    assert.same({ "linear dense_1" }, found(net(nn.Dense { 9 }, nn.Dropout { 0.5 }, nn.BatchNorm {}, nn.Dense { 3 })))
    assert.same({ "linear dense" }, found(nn.Sequential { nn.Input { 8, 8, 1 }, nn.Conv2D { 4, 3 }, nn.Flatten {}, nn.Dense { 3 } }))
    local inner = net(nn.Dense { 8, activation = "relu" }, nn.Dense { 9, name = "last" })
    inner.name = "inner"
    assert.same({ "linear out" }, found(net(inner, nn.Dense { 3, name = "out" })))
    local a = nn.Input { 8 }
    local model = nn.Model { inputs = a, outputs = nn.Dense { 3, name = "out" }(inner(a)) }
    assert.same({ "linear out" }, found(model))
    assert.truthy(model:lint()[1].reason:find("between inner.last and out", 1, true))
    local sum = nn.Dense { 8 }(a) + nn.Dense { 8 }(a) -- what flows together may be anything
    assert.same({}, found(nn.Model { inputs = a, outputs = nn.Dense { 2 }(sum) }))
  end)

  it("finds normalisation after the activation", function()
    assert.same({ "norm_after_activation batch_normalization" }, found(net(nn.Dense { 9, activation = "relu" }, nn.BatchNorm {}, nn.Dense { 3 })))
    assert.same({ "norm_after_activation batch_normalization" },
      found(net(nn.Dense { 9 }, nn.ReLU {}, nn.Dropout { 0.1 }, nn.BatchNorm {}, nn.Dense { 3 })))
    assert.same({}, found(net(nn.BatchNorm {}, nn.Dense { 3 })))
  end)

  it("finds kernels that begin as zeros or all equal, built or not", function()
    local zero = { "zero_kernel dense_1" }
    assert.same(zero, found(net(nn.Dense { 9, activation = "relu" }, nn.Dense { 3, init = "zeros" })))
    assert.same(zero, found(nn.Sequential { nn.Dense { 9, activation = "relu" }, nn.Dense { 3, init = "zeros" } }))
    assert.same({ "constant_kernel dense" }, found(net(nn.Dense { 3, init = nn.initializers.constant { 0.5 } })))
    local model = net(nn.Dense { 3 })
    model[2].kernel:assign(nn.zeros(8, 3))
    assert.same({ "zero_kernel dense" }, found(model))
    local Net = nn.class("Net", nn.Module) -- of the user's
    function Net:init() self.fc = nn.Dense { 2, init = "zeros" } end
    assert.same({ "zero_kernel fc" }, found(Net()))
  end)

  it("finds softmax on softmax", function()
    assert.same({ "softmax_twice softmax" }, found(net(nn.Dense { 3, activation = "softmax" }, nn.Softmax {})))
    assert.same({ "softmax_twice activation" }, found(net(nn.Dense { 3 }, nn.Softmax {}, nn.Dropout { 0.1 }, nn.Activation { "softmax" })))
    local a = nn.Input { 8 }
    assert.same({ "softmax_twice softmax" }, found(nn.Model { inputs = a, outputs = nn.Dense { 3, activation = "softmax" }(a):softmax() }))
  end)

  it("compares what the output gives with what the loss takes", function()
    local scores, odds = net(nn.Dense { 3 }), net(nn.Dense { 3, activation = "softmax" })
    local yes, layer = net(nn.Dense { 1, activation = "sigmoid" }), net(nn.Dense { 3 }, nn.Softmax {})
    for _, case in ipairs {
      { scores, "sparse_categorical_crossentropy", nil, true }, { scores, "sparse_categorical_crossentropy", true, false },
      { odds, "sparse_categorical_crossentropy", nil, false }, { odds, "sparse_categorical_crossentropy", true, true },
      { odds, "cross_entropy", nil, true }, { scores, "cross_entropy", nil, false }, { layer, "categorical_crossentropy", true, true },
      { layer, "categorical_crossentropy", nil, false }, { yes, "bce", nil, false }, { yes, "binary_crossentropy", true, true },
      { yes, "categorical_crossentropy", nil, true }, { scores, "mse", nil, false },
      { odds, { "categorical_crossentropy", from_logits = true }, nil, true },
      { net(nn.Dense { 1, activation = "relu" }), "bce", nil, true }, { scores, function(p) return p:mean() end, nil, false },
    } do
      case[1]:compile { loss = case[2], from_logits = case[3] }
      local list = found(case[1])
      assert.equal(case[4] and 1 or 0, #list, tostring(case[2]) .. " " .. tostring(case[3]) .. " " .. tostring(case[1]))
      if case[4] then assert.truthy(list[1]:find "^logits ") end
    end
    local a = nn.Input { 8 }
    local two = nn.Model { inputs = a, outputs = { nn.Dense { 3, name = "kind" }(a), nn.Dense { 1, name = "price" }(a) } }
    two:compile { loss = { kind = "sparse_categorical_crossentropy", price = "mse" } }
    assert.same({ "logits kind" }, found(two))
  end)

  it("says why and where to read on: a heading that exists", function()
    local page = program.read "docs/models.md"
    local headings, seen = {}, {}
    for heading in page:gmatch "\n#+ ([^\n]+)" do headings[heading:lower():gsub("[^%w %-]", ""):gsub(" ", "-")] = true end
    local model = nn.Sequential { nn.Input { 8 }, nn.Dense { 9, activation = "sigmoid" }, nn.BatchNorm {}, nn.Dense { 9 },
      nn.Dense { 4, init = "zeros" }, nn.Softmax {}, nn.Softmax {} }
    model:compile { loss = "cross_entropy" }
    for _, f in ipairs(model:lint()) do
      local file, anchor = f.page:match "^(docs/models%.md)#(.+)$"
      assert.truthy(file and headings[anchor], f.page)
      assert.is_true(#f.reason > 20 and #f.remedy > 10)
      seen[f.rule] = true
      assert.truthy(tostring(model:lint()):find(f.layer .. ": " .. f.reason, 1, true))
    end
    for _, rule in ipairs { "saturating", "linear", "norm_after_activation", "zero_kernel", "softmax_twice", "logits" } do
      assert.is_true(seen[rule], rule)
    end
  end)
end)
