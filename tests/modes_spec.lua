-- Who computes and when never changes what is computed: call by call or deferred, with 1, 2 or 3 threads, the bits are the same. Compared here: every
-- operator that is written in Lua with its gradients (the inputs of golden/neural.lua), and whole models while they train. (The operators of the
-- table are compared by ops_spec.lua, random graphs of them by random_graphs_spec.lua.)
local nn = require "nnlua"
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local support = dofile(here .. "support.lua")
local golden = dofile(here .. "golden/neural.lua")

local MODES = { { true, 1 }, { false, 1 }, { false, 2 }, { false, 3 }, { true, 3 } }

if nn.device() ~= "cpu" then MODES = { { true, 1 }, { false, 3 } } end -- its invocations are the driver's affair
local eager, threads = nn.eager(), nn.threads()
local function restore()
  nn.eager(eager)
  nn.threads(threads)
end

--- Runs f in every mode; it gives a list of tensors, whose bytes must be those of the first mode.
local function same_bits(f)
  local first
  for _, mode in ipairs(MODES) do
    nn.eager(mode[1])
    nn.threads(mode[2])
    nn.seed(5)
    local list = f()
    local bytes = {}
    for i, t in ipairs(list) do bytes[i] = t:tostring_bytes() end
    first = first or bytes
    assert.equal(#first, #bytes)
    for i = 1, #first do
      if bytes[i] ~= first[i] then
        error(("result %d, %s, %d threads: %s, before %s"):format(i, mode[1] and "eager" or "deferred", mode[2], support.hex(bytes[i], first[i]),
          support.hex(first[i], bytes[i])), 0)
      end
    end
  end
end

local function tensor(t)
  local dtype, shape, values = table.unpack(t)
  if dtype == "bool" then return nn.tensor(values, { dtype = "i64" }):bool():reshape(shape) end
  return nn.tensor(values, { dtype = dtype }):reshape(shape)
end

-- outputs of a golden case and the gradients of its inputs
local function results_of(case)
  local inputs, leaves = {}, {}
  for name, t in pairs(case.inputs) do
    inputs[name] = tensor(t)
    if case.grads and case.grads[name] then leaves[#leaves + 1] = name end
  end
  table.sort(leaves)
  for i, name in ipairs(leaves) do
    inputs[name] = inputs[name]:requires_grad(true)
    leaves[i] = inputs[name]
  end
  local out = table.pack(assert(load("return " .. case.call, "=" .. case.name, "t", setmetatable({ nn = nn }, { __index = inputs })))())
  local list, sum = {}, nil
  for i = 1, out.n do
    local cotangent = case.cotangents and case.cotangents[i]
    list[i] = out[i]:detach()
    if cotangent then
      local term = (out[i] * tensor(cotangent)):sum()
      sum = sum and sum + term or term
    end
  end
  if sum and #leaves > 0 then
    local grads = table.pack(nn.grad(sum, leaves))
    for i = 1, #leaves do list[#list + 1] = grads[i] or leaves[i]:zeros_like() end
  end
  return list
end

describe("eager, deferred and any number of threads agree to the bit:", function()
  teardown(restore)
  for _, case in ipairs(golden) do
    it(case.name, function() same_bits(function() return results_of(case) end) end)
  end
end)

-- ---- models ------------------------------------------------------------------------------------------------------------
local function mlp()
  return nn.Sequential { nn.Input { 20 }, nn.Dense { 33, activation = "relu" }, nn.BatchNorm {}, nn.Dropout { 0.3 }, nn.LayerNorm {},
    nn.Dense { 17, activation = "tanh" }, nn.GaussianNoise { 0.1 }, nn.Dense { 5 } }
end
local function cnn()
  return nn.Sequential { nn.Input { 12, 12, 16 }, nn.Conv2D { 16, 3, padding = "same", activation = "relu" }, nn.BatchNorm {}, nn.MaxPooling2D { 2 },
    nn.Conv2D { 8, 3, strides = 2 }, nn.LeakyReLU { 0.1 }, nn.SpatialDropout2D { 0.2 }, nn.UpSampling2D { 2 }, nn.GlobalAveragePooling2D {},
    nn.Dense { 5 } }
end

-- a model written with the functions: embedding, attention, layer norm, a recurrent layer
local function by_hand()
  local p = {}
  local function weight(...)
    p[#p + 1] = nn.parameter(nn.randn(...) * 0.2)
    return p[#p]
  end
  local emb, wq, wk, wv = weight(11, 16), weight(16, 16), weight(16, 16), weight(16, 16)
  local scale, shift, wx, wh, b, out = weight(16), weight(16), weight(16, 48), weight(12, 48), weight(48), weight(12, 5)
  return p, function(ids)
    local x = nn.embedding(ids, emb)
    x = x + nn.scaled_dot_product_attention(x:matmul(wq), x:matmul(wk), x:matmul(wv), { causal = true })
    x = nn.layer_norm(x, { 16 }, scale, shift):silu()
    local zero = nn.zeros(x:size(1), 12)
    local h = nn.lstm_sequence(x:matmul(wx) + b, wh, zero, zero)
    return nn.dropout(h:mean(2), 0.1):matmul(out)
  end
end

local function train(parameters, forward, x, optimizer)
  local ids, list = nn.randint(1, 6, { x:size(1) }), {}
  for _ = 1, 3 do
    local loss = nn.cross_entropy(forward(x), ids)
    optimizer:zero_grad()
    loss:backward()
    optimizer:step()
    list[#list + 1] = loss:detach()
  end
  for _, w in ipairs(parameters) do list[#list + 1] = w:detach() end
  return list
end

describe("training gives the same bits eager, deferred and with any number of threads:", function()
  teardown(restore)
  local optimizers = { SGD = { lr = 0.1, momentum = 0.9, nesterov = true }, Adam = { lr = 0.01 }, AdamW = { lr = 0.01 }, RMSprop = { lr = 0.01 },
    Adagrad = { lr = 0.01 } }
  for name, o in pairs(optimizers) do
    it("a dense network, " .. name, function()
      same_bits(function()
        local net = mlp()
        net:train()
        local given = { net:parameters() }
        for k, v in pairs(o) do given[k] = v end
        return train(net:parameters(), net, nn.randn(64, 20), nn.optim[name](given))
      end)
    end)
  end
  it("a convolutional network", function()
    same_bits(function()
      local net = cnn()
      net:train()
      return train(net:parameters(), net, nn.randn(16, 12, 12, 16), nn.optim.Adam { net:parameters(), lr = 0.01 })
    end)
  end)
  it("attention and an LSTM", function()
    same_bits(function()
      local p, forward = by_hand()
      return train(p, forward, nn.randint(1, 12, { 6, 9 }), nn.optim.SGD { p, lr = 0.1, momentum = 0.9 })
    end)
  end)
  it("the gradient of a gradient's norm", function()
    same_bits(function()
      local p, forward = by_hand()
      local ids = nn.randint(1, 6, { 6 })
      local g = table.pack(nn.grad(nn.cross_entropy(forward(nn.randint(1, 12, { 6, 9 })), ids), p, { create_graph = true }))
      local norm
      for i = 1, #p do
        local s = g[i]:square():sum()
        norm = norm and norm + s or s
      end
      return table.pack(nn.grad(norm:sqrt(), p))
    end)
  end)
end)

-- 3x3 convolutions of stride 1 with many channels run by Winograd's method unless nn.exact(true): both are held to sums in Lua's doubles, each to its
-- own tolerance, and so are their gradients, whose sums have more terms.
describe("nn.exact", function()
  local N, H, W, C, K = 16, 12, 12, 16, 16
  local before = nn.exact()
  teardown(function()
    restore()
    nn.exact(before)
  end)

  local function numbers(t) return t:reshape(-1):totable() end
  local function at(n, i, j, c, channels) return ((n * H + i) * W + j) * channels + c + 1 end
  local function tap(a, b, c, k) return ((a * 3 + b) * C + c) * K + k + 1 end

  -- one output, one element of the input's gradient, one of the weight's: sums over what reaches them
  local function output(x, w, n, i, j, k)
    local s = 0
    for a = 0, 2 do
      for b = 0, 2 do
        local y, z = i + a - 1, j + b - 1
        for c = 0, C - 1 do
          if y >= 0 and y < H and z >= 0 and z < W then s = s + x[at(n, y, z, c, C)] * w[tap(a, b, c, k)] end
        end
      end
    end
    return s
  end
  local function input_gradient(d, w, n, i, j, c)
    local s = 0
    for a = 0, 2 do
      for b = 0, 2 do
        local y, z = i - a + 1, j - b + 1
        for k = 0, K - 1 do
          if y >= 0 and y < H and z >= 0 and z < W then s = s + d[at(n, y, z, k, K)] * w[tap(a, b, c, k)] end
        end
      end
    end
    return s
  end
  local function weight_gradient(x, d, a, b, c, k)
    local s = 0
    for n = 0, N - 1 do
      for i = 0, H - 1 do
        for j = 0, W - 1 do
          local y, z = i + a - 1, j + b - 1
          if y >= 0 and y < H and z >= 0 and z < W then s = s + x[at(n, y, z, c, C)] * d[at(n, i, j, k, K)] end
        end
      end
    end
    return s
  end

  local function compute(exact)
    nn.exact(exact)
    nn.seed(3)
    local x, w, d = nn.parameter(nn.randn(N, H, W, C)), nn.parameter(nn.randn(3, 3, C, K) * 0.1), nn.randn(N, H, W, K)
    local y = nn.conv2d(x, w, nil, { padding = "same" })
    local dx, dw = nn.grad(y, { x, w }, { cotangents = d })
    return { x = numbers(x), w = numbers(w), d = numbers(d), y = numbers(y), dx = numbers(dx), dw = numbers(dw) }
  end

  local function close(got, expected, tol, what)
    assert.is_true(math.abs(got - expected) <= tol, ("%s: %.9g, expected %.9g within %g"):format(what, got, expected, tol))
  end

  -- largest error that is allowed of y and dx (about 1 in size), of dw (about 50)
  local function check(r, tol, tol_dw)
    for n = 0, N - 1, 5 do
      for i = 0, H - 1 do
        local j, k = (7 * i + n) % W, (5 * i + 3 * n) % K
        close(r.y[at(n, i, j, k, K)], output(r.x, r.w, n, i, j, k), tol, "output")
        close(r.dx[at(n, i, j, k, C)], input_gradient(r.d, r.w, n, i, j, k), tol, "gradient of the input")
      end
    end
    for t = 0, 8 do
      local a, b, c, k = t // 3, t % 3, 3 * t % C, 7 * t % K
      close(r.dw[tap(a, b, c, k)], weight_gradient(r.x, r.d, a, b, c, k), tol_dw, "gradient of the weight")
    end
  end

  it("turns Winograd's method off, where the CPU uses it; both are right", function()
    local winograd, exact = compute(false), compute(true)
    check(winograd, 5e-5, 5e-3)
    check(exact, 5e-6, 5e-4)
    for _, name in ipairs { "y", "dx", "dw" } do
      if nn.device() == "cpu" then assert.not_same(winograd[name], exact[name], name .. ": the switch changed nothing")
      else assert.same(winograd[name], exact[name], name .. ": no other device has Winograd kernels") end
    end
  end)

  it("gives the same bits with 1, 2 and 3 threads, eager and deferred", function()
    nn.exact(true)
    same_bits(function()
      local net = cnn()
      net:train()
      return train(net:parameters(), net, nn.randn(16, 12, 12, 16), nn.optim.Adam { net:parameters(), lr = 0.01 })
    end)
  end)
end)
