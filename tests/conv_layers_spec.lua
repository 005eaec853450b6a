-- lua/nnlua/layers/conv.lua, pooling.lua, shapes.lua: wrong use, shapes that are not known, printing. (Values, gradients, configurations and files:
-- library_spec.)
local nn = require "nnlua"
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local support = dofile(here .. "support.lua")
local close, message = support.close, support.message

local function make(code) return load("local nn = ... return " .. code, "=golden")(nn) end

describe("layers print themselves:", function()
  for code, text in pairs {
    ["nn.Conv2D{32, 3, activation = 'relu'}"] = "Conv2D(? -> 32, 3x3, relu)",
    ["nn.Conv1D{8, 3, padding = 'causal', groups = 2, dilation = 2}"] = "Conv1D(? -> 8, 3, dilation 2, causal, 2 groups)",
    ["nn.Conv3D{8, {1, 2, 3}, stride = 2}"] = "Conv3D(? -> 8, 1x2x3, stride 2x2x2)",
    ["nn.DepthwiseConv2D{3}"] = "DepthwiseConv2D(? -> ?, 3x3)",
    ["nn.SeparableConv1D{8, 3}"] = "SeparableConv1D(? -> 8, 3)",
    ["nn.MaxPooling3D{{1, 2, 2}}"] = "MaxPooling3D(1x2x2)",
    ["nn.AveragePooling1D{3, 2, padding = 'same'}"] = "AveragePooling1D(3, stride 2, same)",
    ["nn.AdaptiveMaxPooling2D{7}"] = "AdaptiveMaxPooling2D(to 7x7)",
    ["nn.GlobalMaxPooling3D{}"] = "GlobalMaxPooling3D()",
    ["nn.Resizing{3, 4}"] = "Resizing(3x4, bilinear)",
    ["nn.ZeroPadding1D{{1, 2}}"] = "ZeroPadding1D(1 2)", -- a list by place is the option
  } do
    it(code, function() assert.equal(text, tostring(make(code))) end)
  end
  it("with what they were built for", function()
    local layer = nn.Conv2D { 32, 3, activation = "relu" }
    layer:build_once { 8, 8, 3 }
    assert.equal("Conv2D(3 -> 32, 3x3, relu)", tostring(layer))
  end)
end)

describe("shapes that are not known stay so:", function()
  for code, shapes in pairs {
    ["nn.Conv2D{8, 3}"] = { { -1, 9, 3 }, { -1, 7, 8 } }, ["nn.Conv1DTranspose{8, 3, strides = 2}"] = { { -1, 3 }, { -1, 8 } },
    ["nn.MaxPooling2D{}"] = { { -1, 5, 3 }, { -1, 2, 3 } }, ["nn.UpSampling1D{}"] = { { -1, 3 }, { -1, 3 } },
    ["nn.ZeroPadding2D{1}"] = { { -1, 5, 3 }, { -1, 7, 3 } }, ["nn.Cropping1D{}"] = { { -1, 3 }, { -1, 3 } },
    ["nn.GlobalAveragePooling3D{}"] = { { -1, -1, -1, 3 }, { 3 } }, ["nn.AdaptiveAveragePooling2D{2}"] = { { -1, -1, 3 }, { 2, 2, 3 } },
    ["nn.Resizing{4, 5}"] = { { -1, -1, 3 }, { 4, 5, 3 } },
  } do
    it(code, function() assert.same(shapes[2], make(code):output_shape(shapes[1])) end)
  end
end)

describe("wrong use:", function()
  local function refuses(text, f, ...)
    local told = message(f, ...)
    assert(told:find(text, 1, true), told)
  end
  it("channels first", function()
    for _, name in ipairs { "Conv1D", "Conv2D", "Conv3D", "Conv2DTranspose", "SeparableConv2D" } do
      refuses(name .. ': option "data_format" must be "channels_last"', nn[name], { 4, 3, data_format = "channels_first" })
    end
    for _, name in ipairs { "MaxPooling2D", "GlobalMaxPooling1D", "UpSampling3D", "ZeroPadding2D", "Cropping3D", "SpatialDropout2D" } do
      local o = { data_format = "channels_first" }
      if name == "SpatialDropout2D" then o[1] = 0.5 end
      refuses('"data_format" must be "channels_last"', nn[name], o)
    end
  end)
  it("samples of other dims, by path", function()
    local model = nn.Sequential { nn.Conv2D { 4, 3 } }
    refuses("Sequential/conv2d: ", model, nn.zeros(2, 5, 3))
    refuses("needs images (N, H, W, C), got samples of shape 5x3", model, nn.zeros(2, 5, 3))
    assert.equal("Conv3D: needs volumes (N, D, H, W, C), got samples of shape 5x5x3", message(nn.Conv3D { 4, 3 }, nn.zeros(2, 5, 5, 3)))
    refuses("needs volumes (N, D, H, W, C)", nn.Conv3D { 4, 3 }, nn.zeros(2, 5, 5, 3))
    refuses("needs sequences (N, T, C)", nn.MaxPooling1D {}, nn.zeros(2, 5, 5, 3))
    refuses("needs volumes", nn.GlobalMaxPooling3D {}, nn.zeros(2, 5, 3))
    refuses("needs images", nn.Resizing { 3, 3 }, nn.zeros(2, 5, 3))
  end)
  it("windows that do not fit", function()
    refuses("a window of 3x3x3 does not fit, got samples of shape 2x5x5x1", nn.Conv3D { 4, 3 }, nn.zeros(1, 2, 5, 5, 1))
    refuses("a window of 4 does not fit", nn.AveragePooling1D { 4 }, nn.zeros(1, 3, 2))
    refuses("nothing is left", nn.Cropping1D { 2 }, nn.zeros(1, 4, 2))
  end)
  it("options", function()
    refuses("must be an integer or three of them, at least 1", nn.Conv3D, { 4, { 3, 3 } })
    refuses("must be an integer, at least 1", nn.Conv1D, { 4, { 3, 3 } })
    refuses('must be one of valid, same, got "causal"', nn.Conv2D, { 4, 3, padding = "causal" })
    refuses("2 groups must divide the channels and the 3 filters", nn.Conv1D { 3, 1, groups = 2 }, nn.zeros(1, 4, 4))
    refuses("must be below the strides, got 2 for a stride of 2", nn.Conv1DTranspose, { 3, 3, strides = 2, output_padding = 2 })
    refuses('did you mean "filters"?', nn.Conv1D, { filter = 3 })
    refuses("needs a multiple of 4 channels", nn.PixelShuffle { 2 }, nn.zeros(1, 2, 2, 6))
    refuses("only one of crop_to_aspect_ratio", nn.Resizing, { 2, 2, crop_to_aspect_ratio = true, pad_to_aspect_ratio = true })
    refuses("a weight of shape 3x3x?x4 cannot be made", function() nn.Conv2D { 4, 3 }:build_once { 5, 5, -1 } end)
  end)
end)

describe("options of weights", function()
  it("reach the kernels of all convolutions", function()
    local layer = nn.SeparableConv2D { 3, 2, init = "ones", pointwise_initializer = nn.initializers.constant { 2 }, bias_initializer = "ones",
      depthwise_regularizer = nn.regularizers.l2 { 0.5 }, pointwise_constraint = "non_neg" }
    local y = layer(nn.ones(1, 2, 2, 2))
    close({ 17, 17, 17 }, y) -- 2 channels of 4 ones, times 2, and 1
    close({ 4 }, layer:regularization():reshape(1))
    local transposed = nn.Conv2DTranspose { 2, 2, init = "ones", regularizer = "l1" }
    transposed(nn.ones(1, 1, 1, 3))
    close({ 0.24 }, transposed:regularization():reshape(1))
  end)
  it("Identity and Lambda", function()
    local x = nn.tensor { { 1.0, 2.0 } }
    assert.same(x:totable(), nn.Identity {}(x):totable())
    local double = nn.Lambda { function(t) return nn.cat({ t, t }, 2) end, output_shape = { 4 } }
    local model = nn.Sequential { nn.Input { 2 }, double, nn.Dense { 3 } }
    assert.same({ 4, 3 }, model[3].kernel:shape())
    assert.same({ { 1, 2, 1, 2 } }, double(x):totable())
    assert.same({ 6 }, nn.Lambda { function(t) return t end, output_shape = function(s) return { s[1] * 2 } end }:output_shape { 3 })
    local file = os.tmpname()
    assert(model:save(file)) -- its weights
    local loaded, told = nn.load(file)
    assert(not loaded and told:find("a function without a name", 1, true), told)
    assert(model:load_weights(file))
    os.remove(file)
  end)
end)
