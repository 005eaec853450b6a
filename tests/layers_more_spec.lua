-- lua/nnlua/layers/shapes.lua, pooling.lua, noise.lua, merge.lua and LayerNorm: values, shapes without running, gradients, files, wrong use.
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local it = support.on_device(it)
local close, message = support.close, support.message

-- x[n][h][w][c] = 1000 n + 100 h + 10 w + c
local function image(n, h, w, c)
  local t = {}
  for a = 1, n do
    t[a] = {}
    for b = 1, h do
      t[a][b] = {}
      for d = 1, w do
        t[a][b][d] = {}
        for e = 1, c do t[a][b][d][e] = 1000 * a + 100 * b + 10 * d + e end
      end
    end
  end
  return t
end
local function floats(t) return nn.tensor(t, { dtype = "f32" }) end

-- The result of a layer; its shape must be what output_shape told.
local function apply(layer, x)
  local y = layer(x)
  local shape = x:shape()
  local told = layer:output_shape(table.move(shape, 2, #shape, 1, {}))
  assert.same(told, table.move(y:shape(), 2, y:dim(), 1, {}))
  return y
end

describe("layers that move elements", function()
  local x = image(2, 2, 3, 2)
  it("Permute", function()
    local y = apply(nn.Permute { 3, 1, 2 }, floats(x)):totable()
    assert.same({ 2, 2, 3 }, { #y[1], #y[1][1], #y[1][1][1] })
    assert.equal(x[2][1][3][2], y[2][2][1][3])
    assert.truthy(message(nn.Permute, { 1, 1 }):find("each once", 1, true))
  end)
  it("RepeatVector", function()
    close({ 1, 2, 1, 2, 1, 2 }, apply(nn.RepeatVector { 3 }, floats { { 1, 2 } }))
  end)
  it("ZeroPadding2D and Cropping2D undo each other", function()
    local sides = { { 1, 2 }, { 0, 3 } }
    local y = apply(nn.ZeroPadding2D { sides }, floats(x))
    assert.same({ 2, 5, 6, 2 }, y:shape())
    local t = y:totable()
    assert.same({ 0, x[2][2][1][1], 0 }, { t[2][1][1][1], t[2][3][1][1], t[2][3][4][1] })
    close(x, apply(nn.Cropping2D { sides }, y))
    assert.same({ 2, 4, 7, 2 }, apply(nn.ZeroPadding2D { { 1, 2 } }, floats(x)):shape())
    assert.truthy(message(nn.Cropping2D { 1 }, floats(x)):find("nothing is left", 1, true))
    assert.truthy(message(nn.ZeroPadding2D, { { 1, 2, 3 } }):find("{{top, bottom}, {left, right}}", 1, true))
  end)
  it("UpSampling2D", function()
    local y = apply(nn.UpSampling2D { { 2, 3 } }, floats(x)):totable()
    for h = 1, 4 do
      for w = 1, 9 do assert.same(x[2][(h + 1) // 2][(w + 2) // 3], y[2][h][w]) end
    end
  end)
  it("have gradients", function()
    for _, layer in ipairs { nn.ZeroPadding2D { 1 }, nn.Cropping2D { { 0, 1 } }, nn.UpSampling2D { 2 }, nn.Permute { 2, 1, 3 },
      nn.GlobalMaxPooling2D {}, nn.GlobalAveragePooling2D {}, nn.LayerNorm { axis = { 2, 4 } } } do
      local data = nn.uniform { 2, 3, 4, 2 }
      layer:build_once { 3, 4, 2 }
      local weights = nn.uniform(layer(data):shape())
      local p = nn.parameter(data)
      local loss = (layer(p) * weights):sum()
      loss:backward()
      local h = 1e-2
      for _, at in ipairs { { 1, 2, 3, 1 }, { 2, 1, 1, 2 } } do
        local bump = nn.zeros { 2, 3, 4, 2 }
        bump[at] = h
        local up, down = (layer(data + bump) * weights):sum():item(), (layer(data - bump) * weights):sum():item()
        close({ (up - down) / (2 * h) }, { p:grad()[at]:item() }, 5e-3, tostring(layer))
      end
    end
  end)
end)

describe("global pooling", function()
  it("takes means and largest", function()
    local x = image(2, 2, 3, 2)
    local means, most = {}, {}
    for n = 1, 2 do
      for c = 1, 2 do
        means[#means + 1], most[#most + 1] = 1000 * n + 150 + 20 + c, 1000 * n + 230 + c
      end
    end
    close(means, apply(nn.GlobalAveragePooling2D {}, floats(x)))
    close(most, apply(nn.GlobalMaxPooling2D {}, floats(x)))
    assert.same({ 2, 1, 1, 2 }, apply(nn.GlobalMaxPooling2D { keepdims = true }, floats(x)):shape())
    close({ 2, 3 }, apply(nn.GlobalAveragePooling1D {}, floats { { { 1, 2 }, { 3, 4 } } }))
    close({ 3, 4 }, apply(nn.GlobalMaxPooling1D {}, floats { { { 1, 4 }, { 3, 2 } } }))
    assert.truthy(message(nn.GlobalMaxPooling2D {}, nn.ones(2, 3)):find("needs images", 1, true))
  end)
end)

describe("noise", function()
  it("is there in training only, with the right moments", function()
    nn.seed(4)
    local x = nn.full({ 400, 4, 4, 16 }, 2)
    for _, case in ipairs { { nn.GaussianNoise { 0.5 }, 0.5 }, { nn.GaussianDropout { 0.2 }, 2 * 0.5 }, { nn.SpatialDropout2D { 0.2 }, 2 * 0.5 } } do
      local y = case[1](x)
      close({ 2, case[2] }, { y:mean():item(), y:std():item() }, 0.06, tostring(case[1]))
      case[1]:eval()
      close(2, case[1](x)[{ 1, 1, 1, 1 }]:item())
    end
  end)
  it("drops whole channels", function()
    nn.seed(4)
    local y = apply(nn.SpatialDropout1D { 0.5 }, nn.ones(20, 6, 10))
    local kinds = {}
    for _, v in ipairs(support.flat((y:amax(2) - y:amin(2)):totable())) do assert.equal(0, v) end
    for _, v in ipairs(support.flat(y:totable())) do kinds[v] = true end
    assert.same({ [0] = true, [2] = true }, kinds)
  end)
end)

describe("merge layers", function()
  local a, b, c = floats { { 1, 5 } }, floats { { 2, 3 } }, floats { { 9, 1 } }
  for name, want in pairs { Add = { 12, 9 }, Multiply = { 18, 15 }, Average = { 4, 3 }, Maximum = { 9, 5 }, Minimum = { 1, 1 },
    Concatenate = { 1, 5, 2, 3, 9, 1 } } do
    it(name, function()
      close(want, nn[name] {}(a, b, c))
      close(want, nn[name] {} { a, b, c })
    end)
  end
  it("Subtract, and wrong numbers of tensors", function()
    close({ -1, 2 }, nn.Subtract {}(a, b))
    assert.truthy(message(nn.Subtract {}, a, b, c):find("takes 2 tensors, got 3", 1, true))
    assert.truthy(message(nn.Add {}, a):find("needs two tensors", 1, true))
    assert.same({ 2, 2 }, nn.Concatenate { 1 }(a, b):shape())
  end)
end)

describe("LayerNorm", function()
  it("normalizes the last dim, or others", function()
    local x = { { 1, 2, 6 }, { 0, -3, 3 } }
    local layer = nn.LayerNorm { epsilon = 1e-6, gamma_initializer = nn.initializers.constant { 2 }, beta_initializer = "ones" }
    local want = {}
    for _, row in ipairs(x) do
      local mean = (row[1] + row[2] + row[3]) / 3
      local var = ((row[1] - mean) ^ 2 + (row[2] - mean) ^ 2 + (row[3] - mean) ^ 2) / 3
      for _, v in ipairs(row) do want[#want + 1] = 2 * (v - mean) / math.sqrt(var + 1e-6) + 1 end
    end
    close(want, apply(layer, floats(x)), 1e-5)
    layer = nn.LayerNormalization { axis = { 2, 3 } }
    local y = apply(layer, nn.normal { 3, 4, 5, 2 })
    close({ 0, 0, 0, 0, 0, 0 }, y:mean { 2, 3 }, 1e-5)
    assert.same({ 4, 5 }, layer.gamma:shape())
    assert.truthy(message(nn.LayerNorm { axis = 1 }, floats(x)):find("cannot normalize over dim 1", 1, true))
  end)
end)

describe("files", function()
  it("hold them all", function()
    local model = nn.Sequential { nn.Input { 4, 4, 2 }, nn.ZeroPadding2D { 1 }, nn.Cropping2D { { 1, 0 } }, nn.UpSampling2D { 2 },
      nn.Permute { 2, 1, 3 }, nn.GaussianNoise { 0.1 }, nn.GaussianDropout { 0.1 }, nn.SpatialDropout2D { 0.1 },
      nn.LayerNorm {}, nn.GlobalMaxPooling2D {}, nn.Dense { 3 },
      nn.RepeatVector { 2 }, nn.GlobalAveragePooling1D {} }
    local file = os.tmpname()
    assert(model:save(file))
    local copy = assert(nn.load(file))
    os.remove(file)
    local x = nn.uniform { 2, 4, 4, 2 }
    assert.same(model:eval()(x):totable(), copy:eval()(x):totable())
    assert.equal(tostring(model), tostring(copy))
  end)
end)
