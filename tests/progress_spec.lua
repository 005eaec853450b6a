-- lua/nnlua/progress.lua, with a clock and streams of our own.
local sys = require("nnlua.core").sys
local Progress = require "nnlua.progress"

describe("Progress", function()
  local clock, isatty, width, stdout, stderr = sys.clock, sys.isatty, sys.terminal_width, io.stdout, io.stderr
  local now, out, err

  local function stream(into)
    return { write = function(_, ...) into[#into + 1] = table.concat { ... } end, flush = function() end }
  end

  before_each(function()
    now, out, err = 100, {}, {}
    sys.clock, sys.isatty, sys.terminal_width = function() return now end, function() return true end, function() return 100 end
    io.stdout, io.stderr = stream(out), stream(err) -- luacheck: ignore
  end)
  after_each(function()
    sys.clock, sys.isatty, sys.terminal_width = clock, isatty, width
    io.stdout, io.stderr = stdout, stderr -- luacheck: ignore
  end)

  local reads = 0
  local function figures()
    reads = reads + 1
    return { { "loss", 0.15321 }, { "accuracy", 0.95 } }
  end

  it("draws a bar with rate and remaining time, at most ten times a second, and reads figures only then", function()
    reads = 0
    local bar = Progress { label = "epoch 2/5", total = 1000 }
    for _ = 1, 500 do
      now = now + 0.002
      bar:update(figures)
    end
    assert.is_true(#err >= 8 and #err <= 10, #err)
    assert.equal(#err, reads)
    bar.next_draw = now
    bar:update(figures)
    assert.equal("\repoch 2/5 [==========>         ]  501/1000  2.00 ms/step  left 0:01  loss 0.1532  accuracy 0.9500\27[K", err[#err])
    assert.same({}, out)
    now = now + 1
    assert.equal(2, math.floor(bar:finish { { "loss", 0.1 }, { "val_loss", 1e-9 } } + 0.5))
    assert.equal("\r\27[K", err[#err])
    assert.same({ "epoch 2/5  2.0 s  loss 0.1000  val_loss 1e-09\n" }, out)
  end)

  it("fits the terminal: first the bar shrinks, then the text is cut", function()
    local bar = Progress { label = "epoch 2/5", total = 1000 }
    bar.step, now = 500, now + 1
    assert.equal("epoch 2/5 [===>  ]  500/1000  2.00 ms/step  left 0:01  loss 0.1532  accuracy 0.9500",
      bar:text(now, figures(), 83))
    assert.equal("epoch 2/5  500/1000  2.00 ms/step  left", bar:text(now, figures(), 40):sub(1, 39))
    for columns = 20, 120 do assert.is_true(#bar:text(now, figures(), columns) <= columns) end
  end)

  it("counts without a total, and from where an epoch goes on", function()
    local bar = Progress { label = "epoch 1/1" }
    bar:skip(10)
    now = now + 2
    bar:update(figures)
    assert.equal("\repoch 1/1  11  2.00 s/step  2.0 s  loss 0.1532  accuracy 0.9500\27[K", err[1])
  end)

  it("prints one line per epoch where there is no terminal, or nothing at all", function()
    sys.isatty = function() return false end
    local bar = Progress { label = "epoch 1/1", total = 3 }
    now = now + 200
    bar:update(figures)
    bar:finish { { "loss", 0 / 0 } }
    assert.same({}, err)
    assert.truthy(out[1]:find "^epoch 1/1  3:20  loss %-?nan\n$")
    bar = Progress { label = "epoch 1/1", verbose = 0 }
    bar:finish {}
    assert.equal(1, #out)
  end)
end)
