-- scripts/show.lua and lua/nnlua/inspect.lua: `nnlua show FILE`.
local nn = require "nnlua"
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local files = dofile(here .. "files.lua")
local program = dofile(here .. "program.lua")
local temporary = files.temporary

describe("nnlua show", function()
  teardown(files.clean)

  it("shows a checkpoint, with the script that wrote it", function()
    if not program.path then return pending "needs nnlua" end
    local script, file = temporary(), temporary()
    program.write(script, ([[
      local nn = require "nnlua"
      local opt = nn.script(arg, { { "units", "integer", default = 3 } })
      local model = nn.Sequential { nn.Input { 4 }, nn.Dense { opt.units, name = "only" } }
      model:compile { optimizer = "adam", loss = "mse" }
      model:fit { nn.ones(8, 4), nn.ones(8, 5), epochs = 2, verbose = 0, save = %q }]]):format(file))
    local _, err, code = program.run { script, "--units", "5", "--seed", "9" }
    assert.equal(0, code, err)
    local out = program.run { "show", file }
    for _, part in ipairs { "2 epochs done, 2 steps", "optimizer    Adam", "learning_rate=0.001", "loss         mse", '"--units","5"', '"units":5',
      "seed         9", "epoch 2  loss ", "f32 4x5", "8 tensors", "units=5", script } do
      assert.truthy(out:find(part, 1, true), part .. "\n" .. out)
    end
    assert.equal(program.read(script), (program.run { "show", "--script", file }))
    program.write(file, "nothing")
    out, err, code = program.run { "show", file }
    assert.equal("", out)
    assert.equal(1, code)
    assert.truthy(err:find(file, 1, true) and not err:find "\n.", err)
  end)

  -- A file of each kind: its ending, what writes it, and what must be shown.
  local model = nn.Sequential { nn.Input { 4 }, nn.Dense { 3, name = "only" } }
  local function bytes(text) return function(file) return program.write(file, text) or true end end
  local x, picture = nn.ones(2, 3), nn.full({ 5, 6, 3 }, 7, "u8")
  local function drawn(file) return nn.vision.save(file, picture) end
  local kinds = {
    { ".keras", function(file) return model:save(file) end, "of Keras: Sequential", "Dense", "f32 4x3" },
    { ".weights.h5", function(file) return model:save_weights(file) end, "2 tensors", "f32 4x3" },
    { ".safetensors", function(file) return model:save_weights(file) end, "format = pt", "only.weight  F32 3x4" },
    { ".h5", function(file) return nn.h5.save(file, { ["a/x"] = x }, { a = { unit = "mm" } }) end, "/a @unit = mm", "/a/x        f32 2x3" },
    { ".npy", function(file) return nn.numpy.save(file, x) end, "f32 2x3" },
    { ".npz", function(file) return nn.numpy.save_npz(file, { x = x, y = picture }) end, "x           f32 2x3", "y           u8 5x6x3" },
    { ".onnx", function(file) return nn.onnx.save(file, model) end, "ONNX, operators of version 17", "inputs       input Nx4",
      "outputs      output Nx3", "MatMul", "only/kernel  f32 4x3" },
    { ".t7", bytes(("<i4d"):pack(1, 2.5)), "a number" }, { "-idx1-ubyte", bytes "\0\0\8\1\0\0\0\3abc", "u8 3" },
    { ".bin", bytes "\0\0\13\2\0\0\0\1\0\0\0\2abcdefgh", "f32 1x2" },
    { ".tfrecord", bytes(require("nnlua.tensorboard").record "one" .. require("nnlua.tensorboard").record "two"), "2 of nn.data.tfrecord" },
    { ".csv", bytes "a,b\n1,2\n3,x\n", "2 of nn.data.csv: i64 scalar, u8" },
    { ".jsonl", bytes '{"a":1,"b":[1,2]}\n', "1 of nn.data.json_lines: i64 scalar, f32 2" },
    { ".png", drawn, "u8 5x6x3" }, { ".jpg", drawn, "u8 5x6x3" }, { ".bmp", drawn, "u8 5x6x3" }, { ".ppm", drawn, "u8 5x6x3" },
    { ".wav", function(file) return nn.audio.save(file, nn.zeros(10, 2), 8000) end, "8000 frames a second", "f32 10x2" },
  }
  for _, kind in ipairs(kinds) do
    it("shows " .. kind[1], function()
      if not program.path then return pending "needs nnlua" end
      local file = temporary() .. kind[1]
      files[#files + 1] = file
      assert(kind[2](file))
      local out, err, code = program.run { "show", file }
      assert.equal(0, code, err)
      for i = 3, #kind do assert.truthy(out:find(kind[i], 1, true), kind[i] .. "\n" .. out) end
      program.write(file, program.read(file):sub(1, 9)) -- damaged: a line that names it, or what is left
      out, err, code = program.run { "show", file }
      assert.is_true(code == 0 and err == "" or code == 1 and out == "" and err:find(file, 1, true) and not err:find "\n." and true, out .. err)
    end)
  end

  it("shows other programs' ONNX, and says what it does not know", function()
    if not program.path then return pending "needs nnlua" end
    local out = program.run { "show", here .. "golden/onnx/cnn.onnx" }
    assert.truthy(out:find("2 Conv, Relu", 1, true) and out:find("a.weight       f32 4x3x3x3", 1, true), out)
    local file = temporary()
    program.write(file, "\1\2\3")
    local _, err, code = program.run { "show", file }
    assert.equal(1, code)
    assert.truthy(err:find("its kind is not known", 1, true), err)
  end)
end)
