-- scripts/course/: the lecture as code. Every lecture is there, is short, runs as a student runs it, says nothing on standard error, and prints what
-- it is about; what it teaches it asserts itself. docs/course.md lists all of them.
local program = dofile "tests/program.lua"

-- Each lecture's name, and what it must print.
local lectures = {
  { "tensor", "view =\ttensor%(%[1 2 3 4 5 6%]" },
  { "graph", "7 operators were written, 2 kernels run.*100 calls with other numbers, 9%d replays" },
  { "pipeline", "before: [%d ]+\n  after:  [%d ]+\n$" },
  { "feed_forward", "output:   3%.25.*150528 inputs %-> 128 %-> 10:   19269002 weights" },
  { "back_propagation", "de/dw = de/dz %* x +%= (%-0%.1782).*W:grad%(%) = %1.*, %1%." },
  { "fully_connected_forward", "y%[1%]%[1%] = ([%-%d.]+)\n.*y%[1%]%[1%] = %1, about %d+ times as fast" },
  { "fully_connected_backward", "dw1 .*db1 .*dw2 .*db2 .*dx .*loss 1%.9220 %-> 0%.9433" },
  { "activations", "The slope of sigmoid is at most 0%.25.*learning rate 1 +%d+ %% of 64 units are dead" },
  { "vanishing_gradients", "first layer: sigmoid [%d.]+e%-1%d, large weights [%d.]+e%+%d+, he_normal 0%.%d+, shortcuts 0%.%d+" },
  { "softmax", "exp%( 2%.0%) = 7%.389, divided by 11%.580: 0%.6381" },
  { "cross_entropy", "mean: 0%.3147.*nats.*0%.811 bits.*60 %%  0%.673.*The best is 60 %%" },
  { "preprocessing", "raw features  test loss +0%.%d+\n  normalized    test loss +0%.0%d+" },
  { "labels_and_one_hot", "ids:    \t2 3 1 3 2 4\nback:   \tcat dog bird dog cat fish" },
  { "augmentation", "RandomRotation by up to 30 degrees\n.*mean difference of the images between two epochs 0%.[%d]+" },
  { "weight_initialisation", "all 0 .*all 0%.3 .*he_normal +layer 1 .*the rule says 0%.0707" },
  { "dropout", "test loss of one member 0%.%d+ .* of the ensemble of 300 0%.%d+, of the whole network 0%.%d+" },
  { "batch_norm", "after batch 60: mean.*epoch 15   loss without 0%.[67]%d+   with 0%.[012]%d+" },
  { "regularisation", "nothing +0%.00%d+ .*l1 = 0%.01 .*stop in time" },
  { "mnist", "Health: 0 remarks.*test accuracy 0%.[89]%d+\n$", { "--limit", "2500", "--epochs", "3" } },
  { "recurrent", "SimpleRNN, small U +322 weights, accuracy 0%.%d+\n.*LSTM +1186 weights, accuracy [01]%.%d+\n$" },
  { "transfer", "1%. Pretrained .*2%. .* from scratch: accuracy 0%.%d+\n3%. Loaded, frozen.*\n4%. Unfrozen" },
  { "devices", "cpu +n = 512 .* GFLOP/s.*the same bits: true" },
}

local function file_of(number, name) return ("scripts/course/%02d_%s.lua"):format(number, name) end

describe("lecture", function()
  for number, lecture in ipairs(lectures) do
    local name, pattern, arguments = table.unpack(lecture)
    it(("%d, %s"):format(number, name), function()
      if not program.path then pending "runs under another Lua" end
      local words = { file_of(number, name), table.unpack(arguments or {}) }
      if name == "mnist" and not os.getenv "NNLUA_DATA" then words[#words + 1] = "--synthetic" end
      local out, err, exit = program.run(words, { env = "-u NNLUA_DEVICE" }) -- on the CPU: they are to be quick
      assert.same({ 0, "" }, { exit, err })
      assert(out:find(pattern), "its line is missing:\n" .. out)
    end)
  end
end)

describe("scripts/course/", function()
  it("holds these lectures and nothing else, each of 60 lines at most, with what one learns and an assertion of it", function()
    local list, count = assert(io.popen "ls scripts/course"), 0
    for file in list:lines() do
      count = count + 1
      assert(lectures[count], file .. " is not in the list")
      assert.equal(file_of(count, lectures[count][1]), "scripts/course/" .. file)
      local text = program.read("scripts/course/" .. file)
      local lines = select(2, text:gsub("\n", "\n"))
      assert(lines <= 60, ("%s has %d lines"):format(file, lines))
      assert.truthy(text:find(("^%%-%%- Lecture %d: [^\n]+\n%%-%%- You learn: "):format(count)), file)
      assert.truthy(text:find("assert(", 1, true), file)
    end
    list:close()
    assert.equal(#lectures, count)
  end)

  it("is what docs/course.md lists, and the README names that page", function()
    local page = program.read "docs/course.md"
    for number, lecture in ipairs(lectures) do
      assert(page:find(("| [%02d_%s.lua](../%s) |"):format(number, lecture[1], file_of(number, lecture[1])), 1, true), lecture[1])
    end
    assert.equal(#lectures, select(2, page:gsub("\n| %[%d%d_", "")))
    assert.truthy(program.read "README.md":find("(docs/course.md)", 1, true))
  end)
end)
