-- lua/nnlua/regularizers.lua, constraints.lua, catalogue.lua, and what layers, models, fit and files make of them; initializers that need products.
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local close, message = support.close, support.message
local R, C = nn.regularizers, nn.constraints

local w = { { 3, -1 }, { -4, 0.5 } }

describe("regularizers", function()
  for name, case in pairs {
    l1 = { R.l1 { 0.1 }, 0.85 }, l2 = { R.l2 { 0.1 }, 2.625 }, l1l2 = { R.l1l2 { 0.1, 0.2 }, 0.85 + 5.25 },
    ["l2 by default"] = { R.l2 {}, 0.2625 }, ["l1l2 by default"] = { R.l1l2 {}, 0 },
    -- rows (3, -1) / sqrt(10) and (-4, .5) / sqrt(16.25)
    orthogonal = { R.orthogonal { 0.5 }, 0.5 * 12.5 / math.sqrt(162.5) },
    ["orthogonal columns"] = { R.orthogonal { 0.5, mode = "columns" }, 0.5 * 5 / (5 * math.sqrt(1.25)) },
  } do
    it(name, function()
      close({ case[2] }, { case[1](nn.tensor(w)):item() }, 1e-6)
      local copy = R.get(case[1]:config())
      assert.equal(tostring(case[1]), tostring(copy))
      assert.equal(case[1](nn.tensor(w)):item(), copy(nn.tensor(w)):item())
    end)
  end

  it("add to the loss and its gradient, in training and evaluation", function()
    local function model(regularizer)
      local m = nn.Sequential { nn.Input { 1 }, nn.Dense { 1, use_bias = false, init = "ones", kernel_regularizer = regularizer } }
      return m:compile { optimizer = nn.optim.SGD { lr = 0.25 }, loss = "mse" }
    end
    local x, y = nn.ones(2, 1), nn.zeros(2, 1)
    local m = model(R.l2 { 0.5 })
    close({ 1.5 }, { (m:evaluate(x, y)) }, 1e-6)
    local loss = m:train_on_batch(x, y)
    close({ 1.5, 1 - 0.25 * (2 + 1) }, { loss, m[2].kernel:item() }, 1e-6)
    assert.is_nil(model():regularization())
    m = model "l1"
    close({ 0.01 }, { m:regularization():item() }, 1e-8)
    assert.equal(1.5, model(function(p) return p:sum() * 0.5 end):evaluate(x, y))
  end)

  it("are found or refused", function()
    assert.truthy(message(R.get, "l3"):find("unknown regularizer \"l3\"", 1, true))
    assert.truthy(message(nn.Dense, { 1, kernel_regularizer = { 3 } }):find("a regularizer must be a name", 1, true))
    assert.truthy(message(R.l2, { l1 = 3 }):find('unknown option "l1"', 1, true))
    assert.equal("L2", R.get(R.l2):config().class_name)
    assert.truthy(message(R.orthogonal {}, nn.ones(2, 2, 2)):find("needs a matrix", 1, true))
  end)
end)

describe("constraints", function()
  local whole = math.sqrt(26.25)
  for name, case in pairs {
    max_norm = { C.max_norm { 1 }, { { 0.6, -1 / math.sqrt(1.25) }, { -0.8, 0.5 / math.sqrt(1.25) } } },
    ["max_norm of rows"] = { C.max_norm { 4, axis = 2 }, { { 3, -1 }, { -16 / math.sqrt(16.25), 2 / math.sqrt(16.25) } } },
    unit_norm = { C.unit_norm { axis = { 1, 2 } }, { { 3 / whole, -1 / whole }, { -4 / whole, 0.5 / whole } } },
    min_max_norm = { C.min_max_norm { 2, 3, rate = 0.5 },
      { { 3 * 0.8, -(1 / math.sqrt(1.25) + 0.5) }, { -4 * 0.8, 0.5 / math.sqrt(1.25) + 0.25 } } },
    non_neg = { C.non_neg {}, { { 3, 0 }, { 0, 0.5 } } },
  } do
    it(name, function()
      close(case[2], case[1](nn.tensor(w)), 1e-6)
      close(case[2], C.get(case[1]:config())(nn.tensor(w)), 1e-6)
    end)
  end

  it("hold after every step of any optimizer", function()
    for _, name in ipairs { "SGD", "RMSprop" } do
      nn.seed(1)
      local m = nn.Sequential { nn.Input { 4 }, nn.Dense { 3, kernel_constraint = C.max_norm { 0.5 }, bias_constraint = "non_neg" } }
      m:compile { optimizer = nn.optim[name] { lr = 0.5 }, loss = "mse" }
      m:fit { nn.normal { 32, 4 }, nn.normal { 32, 3 } * 9 - 5, epochs = 2, verbose = 0 }
      local norms = m[2].kernel:square():sum(1):sqrt():totable()
      for _, n in ipairs(norms) do assert.is_true(n <= 0.5 + 1e-6, n) end
      for _, b in ipairs(m[2].bias:totable()) do assert.is_true(b >= 0) end
      assert.is_true(m[2].kernel:requires_grad())
    end
  end)
end)

it("belongs to its family", function()
  local text = message(nn.Dense, { 3, kernel_constraint = R.l2 { 0.5 } })
  assert.truthy(text:find('Dense: option "kernel_constraint": a constraint must be a name, an object of nn.constraints', 1, true), text)
  text = message(nn.Dense, { 3, bias_regularizer = C.max_norm {} })
  assert.truthy(text:find('Dense: option "bias_regularizer": a regularizer must be a name, an object of nn.regularizers', 1, true), text)
  text = message(nn.Dense, { 3, kernel_regularizer = "max_norm" })
  assert.truthy(text:find('unknown regularizer "max_norm" (valid: l1, l1l2, l2, orthogonal)', 1, true), text)
end)

describe("a file", function()
  it("keeps them", function()
    local m = nn.Sequential { nn.Input { 6, 6, 1 }, nn.Conv2D { 2, 3, regularizer = "l2", constraint = C.unit_norm { axis = { 1, 2, 3 } } },
      nn.Flatten {}, nn.Dense { 1, bias_regularizer = R.l1 { 0.5 }, kernel_constraint = "max_norm" } }
    local file = os.tmpname()
    assert(m:save(file))
    local copy = assert(nn.load(file))
    local keras = nn.h5 and require("nnlua.core").h5_read(file).attrs["/"].model_config
    os.remove(file)
    assert.equal("unit_norm{axis = {1, 2, 3}}", tostring(copy[2].kernel_constraint))
    assert.equal("l1{l1 = 0.5}", tostring(copy[4].bias_regularizer))
    close({ m:regularization():item() }, { copy:regularization():item() }, 1e-7)
    assert.truthy(keras:find('"axis": ?%[0, ?1, ?2%]') and keras:find('"axis": ?0'))
    local odd = nn.Sequential { nn.Input { 1 }, nn.Dense { 1, kernel_regularizer = function(p) return p:sum() end } }
    assert.truthy(message(odd[2].config, odd[2]):find("a function without a name", 1, true))
  end)
end)

describe("initializer", function()
  it("orthogonal gives orthonormal columns or rows, and random ones", function()
    nn.seed(5)
    for _, shape in ipairs { { 7, 3 }, { 3, 7 }, { 64, 64 }, { 3, 3, 2, 5 }, { 1, 1 } } do
      local rows, columns = 1, shape[#shape]
      for i = 1, #shape - 1 do rows = rows * shape[i] end
      local q = nn.initializers.orthogonal { 2 }(shape)
      assert.same(shape, q:shape())
      q = q:reshape { rows, columns }
      local gram = rows >= columns and q:transpose(1, 2):matmul(q) or q:matmul(q:transpose(1, 2))
      close(support.matrix(math.min(rows, columns), math.min(rows, columns), function(i, j) return i == j and 4 or 0 end), gram, 1e-4)
    end
    local init = nn.initializers.get "orthogonal"
    assert.is_true((init { 4, 4 } - init { 4, 4 }):abs():sum():item() > 0.1)
    assert.truthy(message(init, { 3 }):find("at least two dims", 1, true))
  end)
  it("identity", function()
    close({ { 2, 0, 0 }, { 0, 2, 0 } }, nn.initializers.identity { 2 } { 2, 3 })
    close({ { 1 }, { 0 } }, nn.initializers.get "Identity" { 2, 1 })
  end)
end)
