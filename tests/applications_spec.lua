-- lua/nnlua/applications.lua: known models have the published numbers of weights, Keras's layers in Keras's order, and compute what PyTorch computes
-- (golden/resnet18.py).
local nn = require "nnlua"
local core = require "nnlua.core"
local h5 = require "nnlua.h5"
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local files = dofile(here .. "files.lua")
local temporary = files.temporary
local apps = nn.applications

-- Weights in all with and without the top, shape of the features of a picture of 32x32, options that make a small one.
local published = {
  LeNet = { 61706, 2572, { 1, 6, 6, 16 }, {} },
  VGG16 = { 138357544, 14714688, { 1, 1, 1, 512 }, {} },
  VGG19 = { 143667240, 20024384, { 1, 1, 1, 512 }, {} },
  ResNet18 = { 11689512 + 9600, 11176512 + 9600, { 1, 1, 1, 512 }, { width = 8 } }, -- PyTorch does not count the 9600 of batch norm's statistics
  ResNet50 = { 25636712, 23587712, { 1, 1, 1, 2048 }, { width = 8 } },
  ResNet50V2 = { 25613800, 23564800, { 1, 1, 1, 2048 }, { width = 8 } },
  MobileNet = { 4253864, 3228864, { 1, 1, 1, 1024 }, { alpha = 0.25 } },
  MobileNetV2 = { 3538984, 2257984, { 1, 1, 1, 1280 }, { alpha = 0.35 } },
  EfficientNetB0 = { 5330571, 4049571, { 1, 1, 1, 1280 }, {} },
  DenseNet121 = { 8062504, 7037504, { 1, 1, 1, 1024 }, {} },
}

local function small(name, more)
  local o = { include_top = false, input_shape = { 32, 32, name == "LeNet" and 1 or 3 } }
  for _, t in ipairs { published[name][4], more or {} } do
    for key, value in pairs(t) do o[key] = value end
  end
  return apps[name](o)
end
local function farthest(a, b) return (a - b):abs():max():item() end

-- Writes the weights of a model in the layout of the files that keras-applications publishes; `reversed`: the list of layers.
local function write_legacy(file, model, reversed)
  local tree, names = { datasets = {}, attrs = {} }, {}
  for _, child in ipairs(model:children()) do
    local list = {}
    for i, w in ipairs(child[2]:weights()) do
      list[i] = ("%s/%s:0"):format(child[1], w.name)
      tree.datasets[#tree.datasets + 1] = { path = ("/%s/%s"):format(child[1], list[i]), tensor = w.tensor }
    end
    table.insert(names, reversed and 1 or #names + 1, child[1])
    if #list > 0 then tree.attrs[#tree.attrs + 1] = { path = "/" .. child[1], name = "weight_names", value = list } end
  end
  tree.attrs[#tree.attrs + 1] = { path = "/", name = "layer_names", value = names }
  local f = assert(io.open(file, "wb"))
  f:write((assert(core.h5_image(tree))))
  f:close()
end

describe("nn.applications", function()
  teardown(files.clean)

  for name, row in pairs(published) do
    it(name .. " has the published numbers of weights, and features of the right shape", function()
      local model = apps[name] {}
      local trained, other = model:count_params()
      assert.equal(row[1], trained + other)
      assert.same({ name == "LeNet" and 10 or 1000 }, model.outputs[1].sample)
      model = nil -- luacheck: ignore
      collectgarbage()
      local base = apps[name] { include_top = false, input_shape = { 32, 32, name == "LeNet" and 1 or 3 } }
      trained, other = base:count_params()
      assert.equal(row[2], trained + other)
      base:eval()
      local _ <close> = nn.no_grad()
      local y = base(nn.rand(1, 32, 32, name == "LeNet" and 1 or 3))
      assert.same(row[3], y:shape())
      assert.is_true(y:isfinite():all():item() and y:abs():max():item() > 0)
    end)

    it(name .. " goes through a .keras file, and its weights through .h5 as Keras publishes them", function()
      local base = small(name, { pooling = "avg" })
      local x = nn.rand(2, 32, 32, name == "LeNet" and 1 or 3)
      local want = base:predict(x)
      local file = temporary ".keras"
      assert(base:save(file))
      local back = assert(nn.load(file))
      assert.equal(0, farthest(want, back:predict(x)))
      assert.equal(#base.layers, #back.layers)
      for i, layer in ipairs(base.layers) do assert.equal(layer.name, back.layers[i].name) end
      os.remove(file)
      local weights = temporary ".weights.h5"
      for _, reversed in ipairs { false, true } do -- with other orders, names decide
        write_legacy(weights, base, reversed)
        local other = assert(small(name, { pooling = "avg", weights = weights }))
        assert.equal(0, farthest(want, other:predict(x)))
      end
      os.remove(weights)
    end)
  end

  it("order layers as Keras does", function()
    local names, from = {}, nil
    for i, layer in ipairs(small "ResNet50".layers) do
      names[i] = layer.name
      if layer.name == "conv2_block1_1_conv" then from = i end
    end
    assert.equal("conv2_block1_1_conv conv2_block1_1_bn conv2_block1_1_relu conv2_block1_2_conv conv2_block1_2_bn conv2_block1_2_relu "
      .. "conv2_block1_0_conv conv2_block1_3_conv conv2_block1_0_bn conv2_block1_3_bn conv2_block1_add conv2_block1_out",
      table.concat(names, " ", from, from + 11))
  end)

  it("ResNet18 computes what PyTorch does", function()
    local golden = assert(h5.load(here .. "golden/resnet18.h5"))
    local model = apps.ResNet18 { width = 4, classes = 10, input_shape = { 64, 64, 3 } }
    local function values(name, shape, scale)
      local k, n, list = 0, 1, {}
      for _, byte in ipairs { name:byte(1, -1) } do k = k + byte end
      for _, size in ipairs(shape) do n = n * size end
      for i = 1, n do list[i] = math.sin(i * 0.37 + k % 97) * scale end
      return nn.tensor(list):reshape(shape)
    end
    for _, layer in ipairs(model.layers) do
      local name = layer.name
      if name:find "_bn$" then
        layer.gamma:assign(values(name .. "g", layer.gamma:shape(), 0.3) + 1)
        layer.beta:assign(values(name .. "b", layer.beta:shape(), 0.2))
        layer.moving_mean:assign(values(name .. "m", layer.moving_mean:shape(), 0.2))
        layer.moving_variance:assign(values(name .. "v", layer.moving_variance:shape(), 0.5) + 1)
      elseif name:find "_conv$" then
        local s = layer.kernel:shape()
        layer.kernel:assign(values(name, s, (2 / (s[1] * s[2] * s[3])) ^ 0.5))
      elseif name == "predictions" then
        layer.kernel:assign(values(name, layer.kernel:shape(), 1))
        layer.bias:assign(values(name .. "b", layer.bias:shape(), 1))
      end
    end
    assert.is_true(farthest(golden["/y"], model:predict(golden["/x"])) < 1e-5)
    local features = nn.Model { inputs = model.inputs, outputs = model:layer("conv5_block2_out").output }
    assert.is_true(farthest(golden["/features"], features:predict(golden["/x"])) < 1e-4)
  end)

  it("prepare pictures as each family wants them", function()
    local x = nn.tensor { { { { 255, 0, 51 } } } }
    local function close(want, name)
      local got = apps.preprocess_input(name, x):reshape(-1):totable()
      for i = 1, 3 do assert.is_true(math.abs(want[i] - got[i]) < 1e-4, name) end
    end
    close({ 1, -1, -0.6 }, "MobileNetV2")
    close({ 1, -1, -0.6 }, "resnet50v2")
    close({ 51 - 103.939, -116.779, 255 - 123.68 }, "VGG16")
    close({ 51 - 103.939, -116.779, 255 - 123.68 }, "ResNet50")
    close({ (1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225 }, "DenseNet121")
    close({ 255, 0, 51 }, "EfficientNetB0")
    assert.is_true(math.abs(apps.preprocess_input("LeNet", nn.full({ 1 }, 255, "u8")):item() - 1) < 1e-6)
    assert.error_matches(function() apps.preprocess_input("VGG", x) end, "unknown model .*VGG16")
    assert.error_matches(function() apps.preprocess_input("VGG16", nn.ones(2, 4, 4, 1)) end, "takes pictures of 3 channels, got 2x4x4x1")
  end)

  it("say how pictures are prepared, by any name that a model has, and do it inside a model that Keras can read", function()
    for name, want in pairs { VGG16 = "caffe", vgg19 = "caffe", resnet50 = "caffe", ResNet50V2 = "tf", MobileNet = "tf", mobilenet_v2 = "tf",
      ["mobilenet_0.50_224"] = "tf", ["mobilenetv2_1.00_224"] = "tf", densenet121 = "torch", ResNet18 = "torch", EfficientNetB0 = "none",
      LeNet = "unit", vgg16_3 = "caffe" } do
      assert.equal(want, apps.preprocessing(name), name)
    end
    assert.is_nil(apps.preprocessing "sequential_16")
    assert.equal("caffe", apps.preprocessing(small("ResNet50", { width = 8 })))
    local x, pictures = nn.Input { 4, 4, 3 }, nn.randint(0, 255, { 2, 4, 4, 3 }):float()
    for _, name in ipairs { "VGG16", "DenseNet121", "MobileNetV2", "EfficientNetB0" } do
      local model = nn.Model { inputs = x, outputs = nn.Flatten {}(apps.preprocess_input(name, x)) }
      assert.equal(0, (model:count_params()), name)
      local file = temporary ".keras"
      assert(model:save(file))
      local want = apps.preprocess_input(name, pictures):reshape(2, -1)
      assert.equal(0, farthest(want, model:predict(pictures)), name)
      assert.equal(0, farthest(want, assert(nn.load(file)):predict(pictures)), name)
    end
  end)

  it("refuse what they can't be", function()
    local function refuses(text, f)
      local ok, message = pcall(f)
      assert.is_false(ok)
      assert.truthy(message:find(text, 1, true), message)
    end
    refuses('unknown option "top"', function() apps.VGG16 { top = false } end)
    refuses("at least 32x32, got 8x32", function() apps.ResNet50 { input_shape = { 8, 32, 3 }, include_top = false } end)
    refuses("input_shape must be", function() apps.ResNet50 { input_shape = { 32, 32 } } end)
    refuses("include_top = false", function() apps.ResNet50 { pooling = "avg" } end)
    refuses("must say height and width", function() apps.VGG16 { input_shape = { -1, -1, 3 } } end)
    local model, message = apps.ResNet18 { weights = "/nowhere/at/all.h5" }
    assert.is_nil(model)
    assert.equal("hub: /nowhere/at/all.h5: there is no such file or folder", message)
    model, message = apps.MobileNet { weights = "keras:mobilenet", alpha = 0.3 }
    assert.is_nil(model)
    assert.truthy(message:find "no weights are published for alpha")
    local any = apps.MobileNetV2 { input_shape = { -1, -1, 3 }, include_top = false, pooling = "max", alpha = 0.35 }
    assert.same({ 2, 1280 }, any:predict(nn.rand(2, 33, 47, 3)):shape())
  end)

  it("take weights that fit by handle, and freeze for a new head", function()
    local base = small("MobileNetV2", { pooling = "avg" })
    local weights = temporary ".weights.h5"
    write_legacy(weights, base)
    local again = assert(small("MobileNetV2", { pooling = "avg", weights = weights .. "#sha256=" .. core.sha256_file(weights) }))
    again:freeze()
    assert.equal(0, (again:count_params()))
    local other, message = small("MobileNetV2", { pooling = "avg", weights = weights .. "#sha256=" .. ("0"):rep(64) })
    assert.is_nil(other)
    assert.truthy(message:find "expected 0000")
    other, message = small("MobileNetV2", { alpha = 0.5, weights = weights })
    assert.is_nil(other)
    assert.truthy(message:find(weights, 1, true), message)
  end)
end)
