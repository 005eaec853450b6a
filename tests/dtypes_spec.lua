-- The dtypes: what docs/dtypes.md says about promotion, conversion and arithmetic.
local nn = require "nnlua"
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local files = dofile(here .. "files.lua")
local read = files.read

local names = { "bool", "u8", "i32", "i64", "f16", "bf16", "f32", "f64" }

local function near(got, want, tol)
  assert(math.abs(got - want) <= tol, ("got %.17g, want %.17g"):format(got, want))
end

describe("dtypes", function()
  it("promote as the table in docs/dtypes.md says", function()
    local text, rows = read "docs/dtypes.md", 0
    local header = {}
    for line in text:gmatch "[^\n]+" do
      local cells = {}
      for cell in line:gmatch "|%s*([%w]*)%s*%f[|]" do cells[#cells + 1] = cell end
      if line:find "^|      |" then
        header = cells
      elseif #header == 9 and #cells == 9 then
        rows = rows + 1
        for i = 2, 9 do
          local a, b = nn.ones({ 2 }, cells[1]), nn.ones({ 2 }, header[i])
          assert.equal(cells[i], nn.where(nn.tensor { true, false }, a, b):dtype(), cells[1] .. " with " .. header[i])
          assert.equal(cells[i], nn.cat({ a, b }):dtype())
        end
      end
    end
    assert.equal(8, rows)
  end)

  it("are not lifted by numbers, but integers by a fraction", function()
    for _, d in ipairs { "f16", "bf16", "f32", "f64" } do
      assert.equal(d, (nn.ones({ 2 }, d) * 0.1):dtype())
      assert.equal(d, (2 ^ nn.ones({ 2 }, d)):dtype())
      assert.equal(d, nn.ones({ 2 }, d):exp():sum():dtype())
    end
    for _, d in ipairs { "u8", "i32", "i64" } do
      assert.equal(d, (nn.ones({ 2 }, d) * 2):dtype())
      assert.equal("f32", (nn.ones({ 2 }, d) * 2.5):dtype())
      assert.equal("f32", (nn.ones({ 2 }, d) / 2):dtype())
    end
    assert.equal("i64", (nn.tensor { true } + nn.tensor { true }):dtype())
  end)

  it("convert every pair like Lua does", function()
    local values = { 0, 1, 2.5, -3.75, 100.125, 255, 256, -1, 65504, 1e5, -1e5 }
    local function as(d, v)
      if d == "bool" then return v ~= 0 end
      if d:find "f" then return nn.tensor({ v }, { dtype = d }):totable()[1] end
      v = v < 0 and math.ceil(v) or math.floor(v)
      return math.tointeger(d == "u8" and v % 256 or v)
    end
    for _, from in ipairs { "f16", "bf16", "f32", "f64" } do
      local x = nn.tensor(values, { dtype = from })
      for _, to in ipairs(names) do
        local got = x:to(to):totable()
        for i, v in ipairs(x:totable()) do
          if math.abs(v) ~= math.huge then assert.equal(as(to, v), got[i], ("%s -> %s of %g"):format(from, to, v)) end
        end
        assert.equal(to, x:to(to):dtype())
      end
    end
  end)

  it("f16 and bf16 round to nearest, halves to even", function()
    local x = nn.tensor({ 2049, 2051, 0.1, 65519, 65520, 6e-8, 2.9e-8, -0.1 }, { dtype = "f16" }):totable()
    assert.same({ 2048, 2052, 0.0999755859375, 65504, math.huge, 2 ^ -24, 0, -0.0999755859375 }, x)
    local b = nn.tensor({ 257, 259, 0.1, 3.3961775e38, 1e-40 }, { dtype = "bf16" }):totable()
    assert.same({ 256, 260, 0.10009765625, math.huge }, { table.unpack(b, 1, 4) })
    near(b[5], 1e-40, 5e-41)
    local every = nn.arange(-32768, 32768, 1, "f32") / 16 -- the same when a kernel converts
    assert.is_true(nn.eq(every:to "f16":to "f32":to "f16":to "f32", every:to "f16":to "f32"):all():item())
    local nan = nn.tensor({ 0 / 0 }, { dtype = "f32" })
    for _, d in ipairs { "f16", "bf16", "f64" } do assert.is_true(nan:to(d):isnan():all():item()) end
  end)

  it("the whole of f16 survives the way through f32 and f64", function()
    local bytes = {}
    for i = 0, 65535 do
      local exponent = i >> 10 & 31
      if exponent ~= 31 then bytes[#bytes + 1] = string.pack("<I2", i) end
    end
    local text = table.concat(bytes)
    local x = nn.from_string(text, "f16", { #bytes })
    assert.equal(text, x:to "f32":to "f16":tostring_bytes())
    assert.equal(text, x:to "f64":to "f16":tostring_bytes())
    local v = x:totable()
    assert.equal(1.0, v[0x3c00 + 1])
    assert.equal(2 ^ -24, v[2])
  end)

  it("results are rounded operator by operator, fused or not", function()
    local function chain(x) return ((x * 3.3 + 0.1):tanh() * x - x:sum() * 1e-3):exp():softmax() + nn.full({ x:size(1) }, 0.1, x:dtype()) end
    for _, d in ipairs { "f16", "bf16", "f64" } do
      local x = nn.arange(0, 1, 1 / 777):to(d)
      local fused = chain(x):tostring_bytes()
      nn.eager(true)
      local apart = chain(x):tostring_bytes()
      nn.eager(false)
      assert.equal(apart, fused, d)
    end
  end)

  it("f64 computes in double", function()
    local x = nn.tensor({ 0.1, 1, 2.5 }, { dtype = "f64" })
    for i, v in ipairs(x:totable()) do
      near(x:exp():totable()[i], math.exp(v), 1e-15 * math.exp(v))
      near(x:sin():totable()[i], math.sin(v), 1e-15)
      near((x / 3):totable()[i], v / 3, 0)
    end
    assert.equal(0.1 * 0.1 + 1 + 2.5 * 2.5, x:matmul(x):item())
    assert.equal(0.1 + 1 + 2.5, x:sum():item())
    local big = nn.arange(0, 100000, 1, "f64")
    assert.equal(4999950000, big:sum():item())
    assert.equal(4999950000, big:reshape(1000, 100):sum(1):sum():item())
    assert.equal(100000, big:argmax():item())
  end)

  it("have gradients: every float, of its own dtype", function()
    local function loss(x, w) return (x:matmul(w):tanh() * 2 + x:sum(2, true)):logsumexp(2):mean() end
    local x0, w0 = { { 0.5, -0.25, 0.125 }, { 0.75, 0.5, -1 } }, { { 0.5, 0.25 }, { -0.5, 1 }, { 0.25, -0.125 } }
    local want
    for _, d in ipairs { "f64", "f32", "f16", "bf16" } do
      local x, w = nn.tensor(x0, { dtype = d, requires_grad = true }), nn.tensor(w0, { dtype = d, requires_grad = true })
      loss(x, w):backward()
      assert.equal(d, x:grad():dtype())
      local g = x:grad():to "f64":flatten():totable()
      want = want or g
      local tol = ({ f64 = 0, f32 = 1e-6, f16 = 4e-3, bf16 = 4e-2 })[d]
      for i = 1, #g do near(g[i], want[i], tol) end
    end
    local h = 1e-6 -- central differences in double
    local x = nn.tensor(x0, { dtype = "f64" })
    for i = 1, 6 do
      local e = nn.one_hot({ i }, 6):reshape(2, 3):to "f64" * h
      local w = nn.tensor(w0, { dtype = "f64" })
      near(((loss(x + e, w) - loss(x - e, w)) / (2 * h)):item(), want[i], 1e-9)
    end
    local a = nn.tensor({ 1, 2 }, { dtype = "f16", requires_grad = true })
    local b = nn.tensor({ 3, 4 }, { dtype = "f64", requires_grad = true });
    (a * b):sum():backward()
    assert.same({ "f16", "f64" }, { a:grad():dtype(), b:grad():dtype() })
    assert.same({ 3, 4 }, a:grad():totable())
  end)

  it("are trained by the optimizers", function()
    for _, d in ipairs { "f64", "f32", "f16", "bf16" } do
      local function sgd(p) return nn.optim.SGD { { p }, lr = 0.1, momentum = 0.5 } end
      local function adam(p) return nn.optim.Adam { { p }, lr = 0.1 } end
      for _, make in ipairs { sgd, adam } do
        local p = nn.tensor({ 1, -0.5, 0.25 }, { dtype = d }):requires_grad(true)
        local opt = make(p)
        local before = (p * p):sum():item()
        for _ = 1, 8 do
          opt:zero_grad()
          local loss = (p * p):sum()
          loss:backward()
          opt:step()
        end
        assert.equal(d, p:dtype())
        assert((p * p):sum():item() < 0.5 * before, d)
      end
    end
  end)

  it("gradcheck is sharp in f64", function()
    local x, w = nn.randn(3, 4):to "f64", nn.randn(4, 5):to "f64"
    assert(nn.gradcheck(function(a, b) return (a:matmul(b):gelu() / b:softplus():sum(1)):std(1):log() end, { x, w }))
    assert(nn.gradcheck(function(a) return nn.cat({ a[{ {}, 2 }]:mish(), a:index_select(1, { 3, 1, 3 }):flatten():sinh() }):softmax() end, x))
    -- off by a millionth of its size: f32 could not tell
    assert.is_false((nn.gradcheck(function(a) return a:sinh() + a:detach() * 1e-5 * a end, x)))
    assert(nn.gradcheck(function(a) return a:tanh() end, nn.randn(3)))
  end)

  it("nan_to_num knows the largest number of each float", function()
    for d, largest in pairs { f16 = 65504, bf16 = 0x1.fep127, f32 = 0x1.fffffep127, f64 = 0x1.fffffffffffffp1023 } do
      assert.same({ 0, largest, -largest }, nn.tensor({ 0 / 0, 1 / 0, -1 / 0 }, { dtype = d }):nan_to_num():totable())
    end
  end)

  describe("f64 stays f64 in", function()
    local losses, ids = {}, nn.tensor({ 1, 3, 2, 1 }, { dtype = "i64" })
    for name, f in pairs(nn.losses) do
      if type(f) == "function" and name ~= "get" then losses[#losses + 1] = name end
    end
    table.sort(losses)
    for _, name in ipairs(losses) do
      it("the loss " .. name, function()
        nn.seed(1)
        local pred, target = nn.rand(4, 3):to "f64" * 0.8 + 0.1, nn.rand(4, 3):to "f64" * 0.8 + 0.1
        if name == "cross_entropy" or name == "nll" or name:find "^sparse" then target = ids end
        if name == "circle" or name == "triplet" then target = nn.tensor({ 1, 2, 1, 2 }, { dtype = "i64" }) end
        if name == "ctc" then pred, target = nn.randn(2, 5, 4):to "f64", nn.tensor({ { 1, 2 }, { 3, 1 } }, { dtype = "i64" }) end
        if name == "gaussian_nll" then pred = nn.rand(4, 6):to "f64" + 0.1 end
        if name == "margin_ranking" then pred, target = nn.rand(4, 2):to "f64", nn.tensor { 1, -1, -1, 1 }:to "f64" end
        assert.equal("f64", nn.losses[name](pred, target):dtype())
        assert(nn.gradcheck(function(x) return nn.losses[name](x, target) end, pred))
      end)
    end

    local function wide(shape) return nn.randn(shape):to "f64" end
    local layers = {
      { nn.Dense { 4, activation = "tanh", init = wide, bias_initializer = wide }, { 3, 5 } },
      { nn.Conv2D { 4, 3, padding = "same", init = wide }, { 2, 5, 5, 3 } },
      { nn.BatchNorm { gamma_initializer = wide, beta_initializer = wide }, { 6, 3 } },
      { nn.LayerNorm {}, { 6, 3 } }, { nn.ZeroPadding2D { 1 }, { 1, 2, 2, 3 } }, { nn.Rescaling { 1 / 3, 0.1 }, { 2, 3 } },
      { nn.SpatialDropout2D { 0.3 }, { 2, 3, 3, 4 } }, { nn.GaussianDropout { 0.3 }, { 2, 3 } }, { nn.UpSampling2D { 2 }, { 1, 2, 2, 3 } },
      { nn.MaxPooling2D { 2 }, { 1, 4, 4, 3 } }, { nn.Softmax {}, { 2, 3 } },
    }
    for _, row in ipairs(layers) do
      local layer, shape = table.unpack(row)
      it("the layer " .. tostring(layer), function()
        nn.seed(2)
        local x = nn.randn(shape):to "f64"
        assert.equal("f64", layer(x):dtype())
        assert(nn.gradcheck(function(a)
          nn.seed(3)
          return layer(a)
        end, x))
      end)
    end
  end)

  it("of different floats a kernel computes in what they promote to", function()
    local x, w = nn.randn(1, 4, 4, 2):to "f64", nn.randn(3, 3, 2, 3)
    assert.same(nn.conv2d(x, w:to "f64"):totable(), nn.conv2d(x, w):totable())
    local a, b = nn.randn(3, 3), nn.randn(3, 2):to "f64"
    assert.same(nn.solve(a:to "f64", b):totable(), nn.solve(a, b):totable())
    a:requires_grad(true)
    b:requires_grad(true)
    nn.solve(a, b):sum():backward()
    assert.same({ "f32", "f64" }, { a:grad():dtype(), b:grad():dtype() })
  end)

  it("f64 gives the same bits for any number of threads", function()
    local x, w, q = nn.randn(4, 16, 16, 20):to "f64", nn.randn(3, 3, 20, 24):to "f64", nn.randn(40, 9, 64):to "f64"
    local r, h = nn.randn(16, 64):to "f64", nn.randn(40, 16):to "f64"
    local function all()
      local a, b = x:clone():requires_grad(true), w:clone():requires_grad(true)
      local y = nn.max_pool2d(nn.conv2d(a, b, { padding = 1 }), 3, 2)
      local grads = table.pack(nn.grad((y * y):sum(), { a, b }))
      local m, v = nn.moments(x)
      local out, c = nn.lstm_sequence(q, r, h, h)
      local bytes = {}
      for i, t in ipairs { y, grads[1], grads[2], m, v, out, c } do bytes[i] = t:tostring_bytes() end
      return table.concat(bytes)
    end
    local threads = nn.threads()
    nn.threads(1)
    local want = all()
    for n = 2, 3 do
      nn.threads(n)
      assert.is_true(want == all(), n .. " threads")
    end
    nn.threads(threads)
  end)

  it("integers to the power of integers are integers", function()
    for _, d in ipairs { "i32", "i64" } do
      local a = nn.tensor({ 0, 1, -1, -1, 2, -2, 0, 3 }, { dtype = d })
      local b = nn.tensor({ 0, -5, -3, -2, -1, 3, -1, 39 }, { dtype = d })
      local last = math.tointeger(3 ^ 20) * math.tointeger(3 ^ 19)
      if d == "i32" then last = string.unpack("<i4", string.pack("<i8", last)) end -- wraps
      assert.same({ 1, 1, -1, 1, 0, -8, 0, last }, (a ^ b):totable())
      assert.equal(d, (a ^ b):dtype())
      assert.equal("f32", (a ^ 2.0):dtype())
      local ok, err = pcall(function() return a ^ -1 end)
      assert.is_false(ok)
      assert.truthy(tostring(err):find("pow: integers to the power -1 are not integers; make the base a float first", 1, true))
    end
    assert.same({ 0, 225 }, (nn.tensor({ 16, 15 }, { dtype = "u8" }) ^ 2):totable())
  end)

  it("integers divide like NumPy's and never trap", function()
    for _, d in ipairs { "i32", "i64" } do
      local low = d == "i32" and -2147483648 or math.mininteger
      local a = nn.tensor({ -7, 7, -7, 7, 5, low, low }, { dtype = d })
      local b = nn.tensor({ 3, -3, -3, 3, 0, -1, 0 }, { dtype = d })
      assert.same({ -3, -3, 2, 2, 0, low, 0 }, (a // b):totable())
      assert.same({ 2, -2, -1, 1, 0, 0, 0 }, (a % b):totable())
      assert.same({ -1, 1, -1, 1, 0, 0, 0 }, a:fmod(b):totable())
    end
    local a = nn.tensor({ 250, 7 }, { dtype = "u8" })
    assert.same({ 125, 3 }, (a >> 1):totable())
    assert.same({ 244, 14 }, (a << 1):totable())
    assert.same({ 5, 248 }, (~a):totable())
    assert.same({ 2, 7 }, (a & 7):totable())
    assert.same({ false, true }, (~nn.tensor { true, false }):totable())
    assert.has_error(function() return nn.tensor { 1.5 } & 1 end)
    assert.has_error(function() return nn.tensor { true } << nn.tensor { true } end)
  end)

  it("make integers of Lua numbers as casts do, and keep every digit of Lua integers", function()
    local beyond = { 1e30, -1e30, 0 / 0, 3.9, -3.9 }
    for _, dtype in ipairs { "i64", "i32" } do
      local cast = nn.tensor(beyond, "f64"):to(dtype)
      assert.same(cast:totable(), nn.tensor(beyond, dtype):totable())
      local x = nn.zeros({ 5 }, dtype)
      for i, v in ipairs(beyond) do x[i] = v end
      assert.same(cast:totable(), x:totable())
    end
    local x = nn.zeros({ 2 }, "i64")
    x[1], x[2] = math.maxinteger, (1 << 53) + 1
    assert.same({ math.maxinteger, (1 << 53) + 1 }, x:totable())
  end)
end)
