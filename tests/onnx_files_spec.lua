-- lua/nnlua/onnx.lua, onnx/proto.lua, onnx/export.lua: files of torch.onnx with PyTorch's predictions (golden/make_onnx.py), our files through
-- onnx.checker and back, what is refused. The operators themselves: onnx_spec.lua.
local nn = require "nnlua"
local proto = require "nnlua.onnx.proto"
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local files = dofile(here .. "files.lua")
local golden = here .. "golden/onnx/"
local python = os.getenv "NNLUA_PYTHON" or "/usr/bin/python3"
local slurp = files.read

local function farthest(a, b) return (a - b):abs():max():item() end
describe("ONNX files", function()
  local file = os.tmpname()
  teardown(function() os.remove(file) end)
  local function load(bytes) return nn.onnx.load(files.write(file, bytes)) end

  for _, name in ipairs { "mlp", "old", "cnn", "rnn", "attention" } do
    it("of torch.onnx predict what PyTorch does: " .. name, function()
      local io = assert(nn.safetensors.load(golden .. name .. ".io.safetensors"))
      local model = assert(nn.onnx.load(golden .. name .. ".onnx"))
      assert.equal("x0", model.inputs[1].name)
      assert.truthy(farthest(model(io.x0, io.x1), io.y) < 1e-5)
      if name == "cnn" then
        local last = assert(nn.onnx.load(golden .. name .. ".onnx", { channels_last = true }))
        assert.truthy(farthest(last { x0 = io.x0:permute(1, 3, 4, 2) }, io.y) < 1e-5)
      end
    end)
  end

  it("can be trained further", function()
    local io = assert(nn.safetensors.load(golden .. "mlp.io.safetensors"))
    local model = assert(nn.onnx.load(golden .. "mlp.onnx"))
    assert.equal(4, #model:parameters())
    local opt = nn.optim.SGD { model:parameters(), lr = 0.5 }
    local first, last
    for _ = 1, 20 do
      last = model(io.x0):neg():narrow(2, 1, 1):mean()
      first = first or last:item()
      opt:zero_grad()
      last:backward()
      opt:step()
    end
    assert.truthy(last:item() < first / 2)
  end)

  local models = {
    dense = { { 6 }, { nn.Rescaling { 0.5, offset = 1 }, nn.Dense { 7, activation = "relu" }, nn.BatchNorm {}, nn.Dropout { 0.5 },
      nn.LayerNorm {},
      nn.Dense { 5, activation = "silu" }, nn.PReLU {}, nn.LeakyReLU { 0.1 }, nn.ELU { 0.5 },
      nn.Dense { 3, use_bias = false, activation = "softmax" } } },
    cnn = { { 9, 8, 3 }, { nn.Conv2D { 4, 3, padding = "same", strides = 2, activation = "relu" }, nn.BatchNorm {},
      nn.ZeroPadding2D { { { 1, 0 }, { 0, 2 } } },
      nn.Conv2D { 8, 3, groups = 2, dilation_rate = 2, padding = "same", activation = "hard_swish" },
      nn.DepthwiseConv2D { 3, depth_multiplier = 2 },
      nn.SeparableConv2D { 5, 3, padding = "same", activation = "mish" }, nn.MaxPooling2D { 2, padding = "same" },
      nn.Conv2DTranspose { 3, 3, strides = 2, padding = "same", activation = "tanh" }, nn.Conv2DTranspose { 4, 2, strides = 3 },
      nn.AveragePooling2D { 3, strides = 2, padding = "same" }, nn.Flatten {}, nn.Dense { 4, activation = "log_softmax" } } },
    images = { { 6, 6, 3 }, { nn.Conv2D { 4, 3 }, nn.Softmax {}, nn.Activation { "hard_sigmoid" } } },
    sequences = { { 7, 3 }, { nn.Conv1D { 4, 3, padding = "causal", activation = "elu" }, nn.LSTM { 5, return_sequences = true },
      nn.GRU { 4, return_sequences = true },
      nn.Permute { 2, 1 }, nn.Reshape { 7, 4 }, nn.SimpleRNN { 4, return_sequences = true }, nn.GRU { 3, reset_after = false }, nn.Dense { 2 } } },
    prepared = { { 5, 4, 3 }, { nn.Rescaling { { 1, 2, 3 }, { 0.5, 0, -1 } }, nn.Normalization { mean = { 1, 2, 3 }, variance = { 4, 5, 6 } },
      nn.Conv2D { 4, 2 }, nn.Rescaling { { 1, 2, 3, 4 }, 0.5 }, nn.Conv2D { 3, 1 },
      nn.Normalization { axis = false, mean = 2, variance = 9, invert = true }, nn.Flatten {}, nn.Dense { 2 } } },
    global = { { 5, 4, 3 }, { nn.Conv2D { 4, 2 }, nn.GlobalAveragePooling2D {}, nn.ReLU { 6 }, nn.Dense { 2 } } },
  }
  local script = [[
import sys, numpy as np
for n, k in (("float", float), ("int", int), ("bool", bool), ("object", object)):
    if n not in np.__dict__: setattr(np, n, k)
import onnx
onnx.checker.check_model(onnx.load(sys.argv[1]), full_check=True)
]]
  local function check()
    local name = files.write(os.tmpname(), script)
    local pipe = io.popen(("%s %s %s 2>&1"):format(python, name, file))
    local said = pipe:read "a"
    local ok = pipe:close()
    os.remove(name)
    if not ok and said:find "No module named" then pending "python3-onnx is not installed" end
    assert(ok, said)
  end

  for name, case in pairs(models) do
    it("of ours pass onnx.checker and come back: " .. name, function()
      nn.seed(4)
      local model = nn.Sequential { nn.Input(case[1]), table.unpack(case[2]) }
      for _, w in ipairs(model:weights()) do -- running averages too
        w.tensor:assign(w.name:find "variance" and nn.rand(w.tensor:shape()) + 0.5 or nn.randn(w.tensor:shape()) * 0.5)
      end
      assert(nn.onnx.save(file, model))
      local bytes = slurp(file)
      assert(nn.onnx.save(file, model))
      assert.equal(bytes, slurp(file))
      local back = assert(nn.onnx.load(file))
      local x = nn.randn(3, table.unpack(case[1]))
      assert.truthy(farthest(back(x), model:predict(x)) < 1e-5)
      assert.truthy(model:predict(x):abs():max():item() > 1e-3)
      check() -- last: where onnx is missing the rest was tried
    end)
  end

  it("of EfficientNetB0, which has learnt statistics and gates, pass onnx.checker and come back", function()
    nn.seed(5)
    local whole = nn.applications.EfficientNetB0 { input_shape = { 32, 32, 3 }, include_top = false }
    local model = nn.Model { inputs = whole.inputs, outputs = whole:layer("block4a_project_bn").output }
    local layer = whole:layer "normalization"
    layer.mean:assign(nn.tensor { 0.4, 0.5, 0.6 })
    layer.variance:assign(nn.tensor { 0.04, 0.05, 0.09 })
    assert(nn.onnx.save(file, model))
    local x = nn.rand(2, 32, 32, 3) * 255
    local want = model:predict(x)
    assert.truthy(farthest(assert(nn.onnx.load(file))(x), want) < 1e-4 * want:abs():max():item())
    assert.truthy(want:abs():max():item() > 1e-3)
    check()
  end)

  it("of Functional models with branches and ids", function()
    nn.seed(6)
    local ids, image = nn.Input { 5, dtype = "i32", name = "ids" }, nn.Input { 4, 4, 2, name = "image" }
    local a = nn.Conv2D { 3, 3, padding = "same" }(image)
    local b = nn.Add {}(a, nn.Conv2D { 3, 1 }(image))
    local c = nn.Flatten {}(nn.Concatenate {}(a, b, nn.Multiply {}(a, b)))
    local d = nn.GlobalMaxPooling1D {}(nn.Embedding { 6, 4 }(ids))
    local y = nn.Dense { 3, name = "y" }(nn.Concatenate {}(c, d))
    local model = nn.Model { inputs = { ids, image }, outputs = { y, nn.Average {}(a, b) } }
    assert(nn.onnx.save(file, model))
    check()
    local back = assert(nn.onnx.load(file))
    local x1, x2 = nn.randint(1, 6, { 2, 5 }):to "i32", nn.randn(2, 4, 4, 2)
    local y1, y2 = model(x1, x2)
    local z1, z2 = back { ids = x1, image = x2 }
    assert.truthy(farthest(y1, z1) < 1e-5)
    assert.truthy(farthest(y2, z2) < 1e-5)
  end)

  it("name the layer that cannot be written", function()
    local model = nn.Sequential { nn.Input { 4, 4, 1 }, nn.UpSampling2D { 2 } }
    assert.error_matches(function() nn.onnx.save(file, model) end, "up_sampling2d %(UpSampling2D%)")
    assert.error_matches(function() nn.onnx.save(file, nn.Dense { 3 }) end, "needs a Sequential")
    assert.error_matches(function() nn.onnx.save(file, nn.Sequential { nn.Dense { 3 } }) end, "not built")
  end)

  it("are refused when they lie", function()
    local function b(field, s) return proto.bytes(field, s) end
    local function model(graph, more) return proto.int(1, 8) .. b(8, proto.int(2, 13)) .. b(7, graph) .. (more or "") end
    local function info(field, name) return b(field, b(1, name) .. b(2, b(1, proto.int(1, 1)))) end
    local function node(op, from, to, more) return b(1, b(1, from) .. b(2, to) .. b(4, op) .. (more or "")) end
    local function tensor(name, kind, dims, raw, more)
      local s = proto.int(2, kind) .. b(8, name) .. (raw and b(9, raw) or "") .. (more or "")
      for _, d in ipairs(dims) do s = s .. proto.int(1, d) end
      return b(5, s)
    end
    local ends = info(11, "x") .. info(12, "y")
    assert(load(model(ends .. node("Relu", "x", "y"))))
    for _, case in ipairs {
      { "", "not an ONNX" }, { "hello world", "" }, { model(ends .. node("Evil", "x", "y")), "no such operator" },
      { model(ends .. node("Relu", "x", "y", b(7, "com.evil"))), "com.evil" }, { model(ends .. node("Relu", "z", "y")), "nothing before" },
      { model(ends .. node("Relu", "y", "y")), "nothing before" }, { model(ends), "nothing makes" }, { model(info(11, "x")), "without outputs" },
      { model(ends .. node("Relu", "x", "y") .. node("Relu", "x", "y")), "name of its own" }, { model(ends .. node("If", "x", "y")), "If" },
      { model(ends .. node("__index", "x", "y")), "no such operator" },
      { model(ends .. node("Relu", "x", "y", b(5, b(1, "body") .. b(6, "") .. proto.int(20, 5)))), "graphs within" },
      { proto.int(1, 8) .. b(8, proto.int(2, 6)) .. b(7, ends .. node("Relu", "x", "y")), "version 6" },
      { model(ends .. node("Relu", "x", "y"), b(25, "")), "functions" },
      { model(ends .. node("Relu", "x", "y") .. tensor("w", 1, { 2 }, "1234")), "has 4 bytes" },
      { model(ends .. node("Relu", "x", "y") .. tensor("w", 1, { 1 << 40, 1 << 40 }, "")), "too large" },
      { model(ends .. node("Relu", "x", "y") .. tensor("w", 1, { -1 }, "1234")), "size" },
      { model(ends .. node("Relu", "x", "y") .. tensor("w", 8, { 1 }, "1234")), "type 8" },
      { model(ends .. node("Relu", "x", "y") .. tensor("w", 1, { 1 }, nil, proto.int(14, 1))), "outside the file" },
      { model(ends .. node("Relu", "x", "y") .. tensor("w", 1, { 1 }, nil, b(13, b(1, "location") .. b(2, "/etc/passwd")))), "outside the file" },
      { model(ends .. node("Relu", "x", "y") .. tensor("w", 7, { 1 }, nil, b(7, "\1\2\3"))), "more elements" },
      { model(ends .. node("Relu", "x", "y")) .. "\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "beyond" },
    } do
      local value, message = load(case[1])
      assert.is_nil(value)
      assert.truthy(message:find(case[2], 1, true), message)
      assert.falsy(message:find("\n", 1, true))
    end
    local many = model(ends .. node("Relu", "x", "y") .. ("\10\0"):rep(300000)) -- empty nodes
    assert.truthy(select(2, load(many)):find("than a file of its size needs", 1, true))
    local deep = ""
    for _ = 1, 70 do deep = b(1, deep) end
    local nested = {}
    nested[1] = { "inner", nested }
    assert.error(function() proto.decode(deep, 1, #deep, nested) end)
  end)
end)
