-- scripts/show.lua: `nnlua show FILE`.
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
end)
