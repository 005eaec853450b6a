-- The kernels of recurrent layers against the same cells written with other operators.
local nn = require "nnlua"

local N, T, H = 5, 4, 21 -- H no multiple of a vector

local function leaves()
  nn.seed(3)
  local list = { nn.randn(N, T, 4 * H), nn.randn(H, 4 * H) * 0.3, nn.randn(N, H), nn.randn(N, H) }
  for i, t in ipairs(list) do
    list[i] = t:detach()
    list[i]:requires_grad(true)
  end
  return list
end

-- h (N,T,H), c (N,T,H), gates (N,T,4H), step by step
local function reference(x, w, h, c)
  local hs, cs, gates = {}, {}, {}
  for t = 1, T do
    local z = x[{ {}, t }] + h:matmul(w)
    local function gate(k) return z[{ {}, { (k - 1) * H + 1, k * H } }] end
    local i, f, a, o = gate(1):sigmoid(), gate(2):sigmoid(), gate(3):tanh(), gate(4):sigmoid()
    c = f * c + i * a
    h = o * c:tanh()
    hs[t], cs[t], gates[t] = h, c, nn.cat({ i, f, a, o }, 2)
  end
  return nn.stack(hs, 2), nn.stack(cs, 2), nn.stack(gates, 2)
end

local function worst(a, b)
  local d = (a - b):abs():amax():item()
  return d == d and d or math.huge
end

describe("lstm_sequence", function()
  it("gives what the cells give", function()
    local l = leaves()
    local got, want = { nn.lstm_sequence(table.unpack(l)) }, { reference(table.unpack(l)) }
    for k = 1, 3 do assert.is_true(worst(got[k], want[k]) < 1e-5, "result " .. k) end
  end)

  -- a loss over the results that `which` names, each under a cotangent of its own
  local function loss_of(results, which)
    nn.seed(9)
    local loss = nn.tensor(0)
    for k = 1, 3 do
      local cotangent = nn.randn(results[k]:shape())
      if which:find(k, 1, true) then loss = loss + (results[k] * cotangent):sum() end
    end
    return loss
  end

  for _, which in ipairs { "1", "2", "3", "13", "123" } do
    it("has the cells' gradient, results " .. which, function()
      local a, b = leaves(), leaves()
      local ga = { nn.grad({ loss_of({ nn.lstm_sequence(table.unpack(a)) }, which) }, a) }
      local gb = { nn.grad({ loss_of({ reference(table.unpack(b)) }, which) }, b) }
      for k = 1, 4 do
        assert.is_true(gb[k]:abs():amax():item() > 1e-3, "vacuous " .. k)
        assert.is_true(worst(ga[k], gb[k]) < 2e-4, "argument " .. k)
      end
    end)

    it("has the cells' gradient of the gradient, results " .. which, function()
      local function second(fn)
        local l = leaves()
        local first = { nn.grad({ loss_of({ fn(table.unpack(l)) }, which) }, l, { create_graph = true }) }
        local sum = nn.tensor(0)
        for k = 1, 4 do if first[k] then sum = sum + first[k]:square():sum() end end
        return { nn.grad({ sum }, l) }
      end
      local ga, gb = second(nn.lstm_sequence), second(reference)
      for k = 1, 4 do assert.is_true(worst(ga[k], gb[k]) <= 1e-3 * (1 + gb[k]:abs():amax():item()), "argument " .. k) end
    end)
  end

  it("is the same to the bit for any number of threads", function()
    local bytes, before = {}, nn.threads()
    for threads = 1, 3 do
      nn.threads(threads)
      nn.seed(5)
      local l = { nn.randn(37, 6, 4 * 64), nn.randn(64, 4 * 64) * 0.1, nn.randn(37, 64), nn.randn(37, 64) }
      for _, t in ipairs(l) do t:requires_grad(true) end
      local h = nn.lstm_sequence(table.unpack(l))
      local g = { nn.grad({ (h * h):sum() }, l) }
      bytes[threads] = h:tostring_bytes() .. g[1]:tostring_bytes() .. g[2]:tostring_bytes() .. g[3]:tostring_bytes() .. g[4]:tostring_bytes()
    end
    nn.threads(before)
    assert.is_true(bytes[1] == bytes[2] and bytes[1] == bytes[3])
  end)

  it("takes empty batches and no steps", function()
    local h = nn.lstm_sequence(nn.zeros(0, 3, 8), nn.zeros(2, 8), nn.zeros(0, 2), nn.zeros(0, 2))
    assert.same({ 0, 3, 2 }, h:shape())
    local start = nn.ones(3, 2)
    start:requires_grad(true)
    local none = nn.lstm_sequence(nn.zeros(3, 0, 8), nn.ones(2, 8), start, start)
    assert.same({ 3, 0, 2 }, none:shape())
    assert.equal(0, nn.grad({ none:sum() }, { start }):abs():sum():item())
  end)

  it("says what does not fit", function()
    local x, w, h = nn.zeros(2, 3, 8), nn.zeros(2, 8), nn.zeros(2, 2)
    assert.error_matches(function() nn.lstm_sequence(x, nn.zeros(2, 9), h, h) end, "needs x %(N, T, 4H%)")
    assert.error_matches(function() nn.lstm_sequence(x, w, h, nn.zeros(3, 2)) end, "state c must be %(2, 2%)")
  end)
end)

describe("boxes cut from one tensor", function()
  it("add their gradients, overlapping or not, to any order", function()
    nn.seed(1)
    local function value(x)
      return (x[{ { 1, 3 } }] * x[{ { 2, 4 } }]):sum() + (x[{ {}, 2 }] * x[{ {}, 3 }]):square():sum() + x[4]:exp():sum() + x:sum()
    end
    local x = nn.randn(5, 3)
    x:requires_grad(true)
    local g = nn.grad({ value(x) }, { x }, { create_graph = true })
    local eps, table_of = 1e-2, x:totable()
    for i = 1, 5 do
      for j = 1, 3 do
        local at = table_of[i][j]
        table_of[i][j] = at + eps
        local up = value(nn.tensor(table_of)):item()
        table_of[i][j] = at - eps
        local down = value(nn.tensor(table_of)):item()
        table_of[i][j] = at
        assert.is_true(math.abs(g[{ i, j }]:item() - (up - down) / (2 * eps)) < 2e-2, ("element %d, %d"):format(i, j))
      end
    end
    assert.is_true(nn.gradcheck(value, x:detach()))
    local v = nn.randn(5, 3)
    local second = nn.grad({ (g * v):sum() }, { x })
    local function first(at)
      local t = at:detach()
      t:requires_grad(true)
      return (nn.grad({ value(t) }, { t }) * v):sum():item()
    end
    local base = x:detach()
    for _, ij in ipairs { { 1, 1 }, { 2, 2 }, { 4, 3 } } do
      local d = nn.zeros(5, 3)
      d[ij] = eps
      local numeric = (first(base + d) - first(base - d)) / (2 * eps)
      assert.is_true(math.abs(second[ij]:item() - numeric) < 5e-2, ("second %d, %d"):format(ij[1], ij[2]))
    end
  end)
end)
