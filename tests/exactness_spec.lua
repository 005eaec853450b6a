-- Bits of whole trainings, with every set of kernels that this machine has: exactness.lua says what is compared. With the kernels of x86-64-v2
-- products are OpenBLAS's, with those for Haswell, whose results depend most on how a product is cut.
local core = require "nnlua.core"
local program = dofile "tests/program.lua"
local support = dofile "tests/support.lua"

local SETS = { { "", core.cpu_level() } }
if core.cpu_level():find "x86" then
  for _, isa in ipairs { "v3", "v2" } do
    if core.cpu_level() > "x86-64-" .. isa then SETS[#SETS + 1] = { "OPENBLAS_CORETYPE=Haswell NNLUA_ISA=" .. isa, "x86-64-" .. isa } end
  end
end

describe("200 steps give the same bits", function()
  local folder, digests
  setup(function() folder, digests = program.folder(), {} end)
  teardown(function() program.remove(folder) end)

  for _, set in ipairs(SETS) do
    it("with any number of threads and workers, killed or not: " .. set[2], function()
      if not program.path then return pending "needs nnlua" end
      local seed, kills = support.seed(36), support.cases(20, true)
      local out, err, code = program.run({ "tests/exactness.lua", folder, tostring(seed), tostring(kills) }, { env = set[1] })
      assert.same({ 0, "" }, { code, err })
      print((out:gsub("%s+$", "")))
      assert.truthy(out:find("kernels " .. set[2], 1, true), out)
      for _, name in ipairs { "mlp", "cnn" } do
        local counts, digest = out:match(name .. ": (seed .-): (%x+)\n")
        assert.equal(("seed %d, 12 threads x workers, 200 steps each, %d kills, 3 resumptions in a chain"):format(seed, kills), counts)
        assert.is_nil(digests[digest], "other kernels with the bits of these: this test does not see what it should")
        digests[digest] = set[2]
      end
    end)
  end
end)
