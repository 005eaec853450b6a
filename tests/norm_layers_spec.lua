-- lua/nnlua/layers/norm.lua and wrappers.lua: statistics, axes, weights that are normalized. (Values and gradients: golden/layers.lua.)
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local close, message = support.close, support.message
local it = support.on_device(it)

local function refuses(text, f, ...)
  local told = message(f, ...)
  assert(told:find(text, 1, true), told)
end

describe("BatchNorm", function()
  local x = nn.normal({ 6, 3, 4, 2, 5 }, 2, 3)
  it("of any rank follows the batch", function()
    for _, shape in ipairs { { 60, 5 }, { 30, 2, 5 }, { 6, 3, 4, 5 } } do
      local layer = nn.BatchNorm { momentum = 0.5 }
      local y = layer(nn.normal(shape, 2, 3))
      local rows = y:reshape { -1, 5 }
      close({ 0, 0, 0, 0, 0 }, rows:mean(1), 1e-4)
      assert.same({ 5 }, layer.moving_mean:shape())
    end
    local layer = nn.BatchNorm { momentum = 0.5 }
    layer(x)
    local flat = x:reshape { -1, 5 }
    close((flat:mean(1) * 0.5):totable(), layer.moving_mean, 1e-4)
    close((flat:var(1, 0) * 0.5 + 0.5):totable(), layer.moving_variance, 1e-4)
  end)
  it("over another axis, in inference too", function()
    local layer, swapped = nn.BatchNorm { axis = 3, momentum = 0.9 }, nn.BatchNorm { momentum = 0.9 }
    for _ = 1, 3 do
      layer(x)
      swapped(x:movedim(3, -1))
    end
    layer:eval()
    swapped:eval()
    close(swapped(x:movedim(3, -1)):movedim(-1, 3):totable(), layer(x))
    assert.equal("BatchNorm(4, axis 3)", tostring(layer))
    refuses("axis 1 must be a dim of the samples", nn.BatchNorm { axis = 1 }, x)
  end)
  it("has regularizers and constraints", function()
    local layer = nn.BatchNorm { gamma_regularizer = nn.regularizers.l2 { 1 }, beta_constraint = "non_neg" }
    layer(nn.ones(2, 3))
    close({ 3 }, layer:regularization():reshape(1))
  end)
end)

describe("groups", function()
  it("are refused where they do not divide the channels", function()
    refuses("4 groups must divide the 6 channels, got samples of shape 2x6", nn.GroupNorm { 4 }, nn.zeros(1, 2, 6))
    refuses("0 groups must divide", nn.GroupNorm { 0 }, nn.zeros(1, 2, 6))
  end)
  it("of one channel are InstanceNorm", function()
    local x = nn.normal { 2, 5, 4, 6 }
    close(nn.InstanceNorm {}(x):totable(), nn.GroupNorm { -1 }(x))
    close(nn.InstanceNorm {}(x):totable(), nn.GroupNormalization { 6 }(x))
    assert.equal("GroupNorm(a group per channel)", tostring(nn.GroupNorm { -1 }))
    local plain = nn.InstanceNorm { center = false, scale = false }
    plain(x)
    assert.equal(0, #plain:named_parameters())
  end)
end)

describe("SpectralNorm", function()
  -- The largest singular value, by many power iterations in doubles.
  local function sigma(rows)
    local n, m, v = #rows, #rows[1], {}
    for j = 1, m do v[j] = 1 / j end
    local length
    for _ = 1, 500 do
      local u, w = {}, {}
      for i = 1, n do
        u[i] = 0
        for j = 1, m do u[i] = u[i] + rows[i][j] * v[j] end
      end
      length = 0
      for j = 1, m do
        w[j] = 0
        for i = 1, n do w[j] = w[j] + rows[i][j] * u[i] end
        length = length + w[j] ^ 2
      end
      length = math.sqrt(length)
      for j = 1, m do v[j] = w[j] / length end
    end
    return math.sqrt(length)
  end

  it("divides by the largest singular value, in inference by the one that it followed", function()
    nn.seed(3)
    local dense = nn.Dense { 4, use_bias = false }
    local layer = nn.SpectralNorm { dense, power_iterations = 60 }
    local x = nn.normal { 3, 6 }
    local y = layer(x)
    local want = x:matmul(dense.kernel) / sigma(dense.kernel:totable())
    close(want:totable(), y, 1e-4)
    local u = layer.vector_u:totable()
    close(want:totable(), layer:eval()(x), 1e-4)
    assert.same(u, layer.vector_u:totable()) -- only training moves it
    assert.same({ "layer.kernel" }, layer:parameters().names)
  end)
  it("has the gradient of the quotient", function()
    local dense = nn.Dense { 3, use_bias = false }
    local layer = nn.SpectralNorm { dense, power_iterations = 100 }
    local x = nn.normal { 2, 4 }
    layer(x):square():sum():backward()
    local k = dense.kernel:totable()
    local function f(rows)
      local w = nn.tensor(rows, { dtype = "f64" }) / sigma(rows)
      return x:double():matmul(w):square():sum():item()
    end
    local g = dense.kernel:grad():totable()
    for i = 1, 4 do
      for j = 1, 3 do
        local old = k[i][j]
        k[i][j] = old + 1e-4
        local up = f(k)
        k[i][j] = old - 1e-4
        local down = f(k)
        k[i][j] = old
        close({ (up - down) / 2e-4 }, { g[i][j] }, 2e-3)
      end
    end
  end)
  it("puts the kernel back when the layer raises, and names the path", function()
    local dense = nn.Dense { 3 }
    local layer = nn.SpectralNorm { dense }
    layer(nn.zeros(2, 4))
    local kernel = rawget(dense, "kernel")
    refuses("SpectralNorm/layer: linear: ", layer, nn.zeros(2, 5))
    assert.equal(kernel, rawget(dense, "kernel"))
    refuses("must be a layer, such as nn.Dense{10}, got 3", nn.SpectralNorm, { 3 })
    refuses("needs a layer, such as nn.SpectralNorm{ nn.Dense{10} }, got a table", nn.SpectralNorm, { {} })
    refuses("has no kernel", nn.SpectralNorm { nn.Flatten {} }, nn.zeros(2, 5))
  end)
end)

describe("WeightNorm", function()
  it("begins as the layer itself and trains length and direction", function()
    local plain = nn.Conv2D { 3, 2 }
    local x = nn.normal { 2, 4, 4, 2 }
    local want = plain(x):totable()
    local layer = nn.WeightNorm { plain }
    close(want, layer(x), 1e-5)
    assert.same({ "g", "layer.kernel", "layer.bias" }, (function()
      local names = layer:parameters().names
      table.sort(names)
      return { names[1], names[3], names[2] }
    end)())
    local model = nn.Sequential { nn.Input { 4, 4, 2 }, layer, nn.Flatten {} }
    local opt = nn.optim.SGD { model:parameters(), lr = 0.05 }
    local first, last
    for _ = 1, 20 do
      local loss = model(x):square():mean()
      first, last = first or loss:item(), loss:item()
      opt:zero_grad()
      loss:backward()
      opt:step()
    end
    assert(last < first * 0.8)
  end)
end)

describe("wrappers", function()
  local x = nn.normal { 3, 4 }
  it("SkipConnection and Parallel merge", function()
    local dense = nn.Dense { 4 }
    close((dense(x) + x):totable(), nn.SkipConnection { dense }(x))
    local other = nn.Dense { 2 }
    local both = nn.Parallel { dense, other, merge = "concatenate" }
    close(nn.cat({ dense(x), other(x) }, 2):totable(), both(x))
    assert.same({ 6 }, both:output_shape { 4 })
    assert.same({ 8 }, nn.SkipConnection { dense, merge = "concatenate" }:output_shape { 4 })
    refuses("the sizes must be equal, or 1, got samples of shapes 2 and 4", nn.SkipConnection { nn.Dense { 2 } }, x)
    refuses("two layers or more", nn.Parallel, { dense })
  end)
  it("are held by files", function()
    local model = nn.Sequential { nn.Input { 4 }, nn.SpectralNorm { nn.Dense { 4 } }, nn.SkipConnection { nn.Dense { 4, activation = "tanh" } },
      nn.WeightNorm { nn.Dense { 3 } }, nn.Parallel { nn.Dense { 3 }, nn.SkipConnection { nn.Dense { 3 } }, merge = "multiply" } }
    model(x)
    local file = os.tmpname()
    assert(model:save(file))
    local copy = assert(nn.load(file))
    os.remove(file)
    assert.equal(tostring(model), tostring(copy))
    assert.same(model:eval()(x):totable(), copy:eval()(x):totable())
  end)
  it("work in nn.jit", function()
    local model = nn.Sequential { nn.Input { 4 }, nn.SpectralNorm { nn.Dense { 4 } }, nn.WeightNorm { nn.Dense { 3 } } }
    local opt = nn.optim.SGD { model:parameters(), lr = 0.1 }
    local start = model:state()
    local function step(t)
      local loss = model(t):square():mean()
      opt:zero_grad()
      loss:backward()
      opt:step()
      return loss
    end
    local function run(f)
      model:load_state(start)
      local list = {}
      for i = 1, 5 do list[i] = f(x):item() end
      return list
    end
    local want = run(step)
    close(want, run(nn.jit(step)), 1e-6)
    assert(want[5] < want[1])
  end)
end)
