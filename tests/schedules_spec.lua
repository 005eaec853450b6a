-- lua/nnlua/schedules.lua: values worked out by hand or by the formulas of Keras and PyTorch, options, configuration.
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local close, message = support.close, support.message
local S = nn.schedules

-- name, schedule, { step = rate, ... }
local cases = {
  { "constant", S.constant { 0.1 }, { [0] = 0.1, [7] = 0.1 } },
  { "exponential", S.exponential { 0.1, decay_steps = 10, decay_rate = 0.5 }, { [0] = 0.1, [10] = 0.05, [15] = 0.1 * 0.5 ^ 1.5 } },
  { "exponential in stairs", S.exponential { 0.1, 10, 0.5, staircase = true }, { [0] = 0.1, [9] = 0.1, [10] = 0.05, [25] = 0.025 } },
  { "piecewise", S.piecewise { { 2, 5 }, { 1, 0.5, 0.1 } }, { [0] = 1, [2] = 1, [3] = 0.5, [5] = 0.5, [6] = 0.1, [99] = 0.1 } },
  { "polynomial", S.polynomial { 1, 10, end_learning_rate = 0.2, power = 2 }, { [0] = 1, [5] = 0.8 * 0.25 + 0.2, [10] = 0.2, [30] = 0.2 } },
  { "polynomial in cycles", S.polynomial { 1, 10, end_learning_rate = 0, cycle = true }, { [0] = 1, [10] = 0, [15] = 0.25, [20] = 0, [25] = 1 / 6 } },
  { "inverse time", S.inverse_time { 1, 4, 0.5 }, { [0] = 1, [4] = 1 / 1.5, [6] = 1 / 1.75 } },
  { "inverse time in stairs", S.inverse_time { 1, 4, 0.5, staircase = true }, { [3] = 1, [6] = 1 / 1.5 } },
  { "cosine", S.cosine { 2, 8, alpha = 0.1 }, { [0] = 2, [4] = 2 * (0.9 * 0.5 + 0.1), [8] = 0.2, [100] = 0.2 } },
  { "cosine with warm-up", S.cosine { 0, 10, warmup_target = 1, warmup_steps = 4 }, { [0] = 0, [1] = 0.25, [4] = 1, [9] = 0.5, [14] = 0, [20] = 0 } },
  { "cosine with restarts", S.cosine_restarts { 1, 4, m_mul = 0.5 }, { [0] = 1, [2] = 0.5, [4] = 0.5, [8] = 0.25, [12] = 0.25, [20] = 0.125 } },
  { "step", S.step { 1, 3, 0.5 }, { [0] = 1, [2] = 1, [3] = 0.5, [6] = 0.25 } },
  { "linear", S.linear { 1, 0.2, 4 }, { [0] = 1, [1] = 0.8, [4] = 0.2, [9] = 0.2 } },
  -- PyTorch 1.13, OneCycleLR(max_lr=1, total_steps=10)
  { "one cycle", S.one_cycle { 1, 10 }, { [0] = 0.04, [1] = 0.52, [2] = 1, [3] = 0.9504846320, [6] = 0.3887419781, [9] = 4e-6 } },
  { "cyclic", S.cyclic { 0.1, 0.5, 4 }, { [0] = 0.1, [2] = 0.3, [4] = 0.5, [6] = 0.3, [8] = 0.1, [12] = 0.5 } },
  { "cyclic that fades", S.cyclic { 0, 1, 2, gamma = 0.5 }, { [2] = 1, [6] = 0.5, [10] = 0.25 } },
  { "noam", S.noam { 64, 10 }, { [0] = 0.125 * 10 ^ -1.5, [9] = 0.125 * 10 ^ -0.5, [39] = 0.125 * 40 ^ -0.5 } },
  { "join", S.join { { S.linear { 0, 1, 4 }, S.exponential { 1, 1, 0.5 }, 0.1 }, { 4, 6 } }, { [0] = 0, [2] = 0.5, [4] = 1, [5] = 0.5, [6] = 0.1 } },
}

describe("schedule", function()
  for _, case in ipairs(cases) do
    it(case[1] .. " has its values, also after a file", function()
      local copy = S.get(case[2]:config())
      for step, want in pairs(case[3]) do
        close({ want }, { case[2](step) }, 1e-7, ("step %d"):format(step))
        assert.equal(case[2](step), copy(step))
      end
      assert.equal(tostring(case[2]), tostring(copy))
    end)
  end

  it("is checked", function()
    assert.equal("piecewise: 2 boundaries need 3 values, got 2", message(S.piecewise, { { 1, 2 }, { 1, 2 } }))
    assert.truthy(message(S.cosine, { 0.1 }):find('"decay_steps" is missing', 1, true))
    assert.truthy(message(S.cosine, { 0.1, 5, warm = 3 }):find('unknown option "warm"', 1, true))
    assert.truthy(message(S.join, { { 1, 2 }, {} }):find("2 schedules need 1 boundaries", 1, true))
    assert.truthy(message(S.get, "cosine"):find("a schedule such as", 1, true))
    assert.truthy(message(S.get, { class_name = "Cosinus" }):find("CosineDecay", 1, true))
  end)
end)

describe("warmup", function()
  it("rises in a line to where its schedule begins", function()
    local lr = nn.schedules.warmup { nn.schedules.exponential { 0.8, 10, 0.5 }, 4 }
    local got = {}
    for i, step in ipairs { 0, 1, 3, 4, 14 } do got[i] = lr(step) end
    support.close({ 0, 0.2, 0.6, 0.8, 0.4 }, got, 1e-12)
    local again = nn.schedules.get(lr:config())
    assert.equal(lr(7), again(7))
    support.close(0.3, nn.schedules.warmup { 0.5, 10, initial_learning_rate = 0.1 }(5), 1e-12)
  end)
end)

describe("plateau", function()
  it("falls when what it is told gets no better", function()
    local lr = nn.schedules.plateau { 1, factor = 0.5, patience = 2, min_lr = 0.2 }
    local opt = nn.optim.SGD { { nn.parameter { 1 } }, lr = lr }
    local rates = {}
    for i, loss in ipairs { 5, 4, 4, 4, 3, 3, 3, 3, 3 } do
      lr:report(loss)
      opt:step()
      rates[i] = opt.lr
    end
    assert.same({ 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2 }, rates)
    assert.equal(0.2, nn.schedules.get(lr:config())(0))
    local up = nn.schedules.plateau { 1, mode = "max", patience = 1 }
    up:report(1)
    assert.equal(1, up:report(2))
    assert.equal(0.1, up:report(2))
  end)
end)
