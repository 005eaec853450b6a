-- scripts/: the programs that users run first, as users run them; and a training resumed in a new process.
local nn = require "nnlua"
local sys = nn.sys
local root = (debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "../"

-- Runs `nnlua arguments`; returns its standard output, its standard error, and whether it ended well, with the exit code.
local function run(arguments)
  local out, err = os.tmpname(), os.tmpname()
  local ok, _, code = os.execute(("'%s' %s >'%s' 2>'%s'"):format(sys.exe_path(), arguments, out, err))
  local function text(file)
    local f = assert(io.open(file))
    local s = f:read "a"
    f:close()
    os.remove(file)
    return s
  end
  return text(out), text(err), ok == true, code
end

local function last_line(text) return text:match "([^\n]*)\n*$" end

-- A folder of four IDX files with `n` and `m` images: the place of a bright square says the digit.
local function small_mnist(n, m)
  local folder = os.tmpname()
  os.remove(folder)
  assert(sys.mkdir_p(folder))
  local function write(name, text)
    local f = assert(io.open(folder .. "/" .. name, "wb"))
    f:write(text)
    f:close()
  end
  for prefix, count in pairs { train = n, t10k = m } do
    local images, labels = { string.pack(">I4I4I4I4", 0x803, count, 28, 28) }, { string.pack(">I4I4", 0x801, count) }
    for i = 1, count do
      local digit = (i * 7) % 10
      local top, left = digit // 5 * 14 + 2 + i % 3, digit % 5 * 5 + 1
      local rows = {}
      for r = 1, 28 do
        local inside = r > top and r <= top + 8
        rows[r] = ("\0"):rep(left) .. (inside and "\200" or "\0"):rep(4) .. ("\0"):rep(24 - left)
      end
      images[#images + 1], labels[#labels + 1] = table.concat(rows), string.char(digit)
    end
    write(prefix .. "-images-idx3-ubyte", table.concat(images))
    write(prefix .. "-labels-idx1-ubyte", table.concat(labels))
  end
  return folder
end

describe("scripts", function()
  local folder
  setup(function() folder = small_mnist(600, 130) end)
  teardown(function() os.execute(("rm -r '%s'"):format(folder)) end)

  local function train(arguments) return run(("%sscripts/train_mnist.lua --data '%s' %s"):format(root, folder, arguments)) end

  it("bench measures every row on the CPU, and says when there is no such device", function()
    local out, err, ok = run "bench --device cpu --seconds 0.001"
    assert.same({ "", true }, { err, ok })
    assert.equal(9, select(2, out:gsub("\n[^\n]+  %d[%d.e+]* [Gm][^\n]+", "")))
    for _, unit in ipairs { "GFLOP/s", "GB/s", "ms" } do assert.matches(" %d[%d.e+]* " .. unit .. "\n", out) end
    assert.not_matches("not measured", out)
    local nothing, why, fine = run "bench --device vulkan:99"
    assert.same({ "", false }, { nothing, fine })
    assert.matches("^bench: device: there is no ", why)
  end)

  it("train_xor.lua learns", function()
    local out, err = run(root .. "scripts/train_xor.lua")
    assert.equal("", err)
    assert.equal("accuracy 1.00", last_line(out))
  end)

  it("transfer.lua gives a trained network a new head, and tunes it", function()
    local out, err = run(root .. "scripts/transfer.lua --quick")
    assert.equal("", err)
    local head = tonumber(out:match "accuracy with a new head +(%d%.%d+)\n")
    local tuned = tonumber(out:match "\ntransfer accuracy (%d%.%d+), from scratch %d%.%d+, on 50 pictures of 5 digits\n$")
    assert.is_true(head > 0.5 and tuned > head and tuned > 0.7, out) -- by chance it were 0.2
    local nothing, why, ok = run(root .. "scripts/transfer.lua --quick --base /nowhere.keras")
    assert.same({ "", "transfer: hub: /nowhere.keras: there is no such file or folder\n", false }, { nothing, why, ok })
  end)

  it("train_mnist_lstm.lua reads images by rows", function()
    local out, err = run(("%sscripts/train_mnist_lstm.lua --data '%s' --hidden 32 --epochs 4 --batch 16 --lr 0.01"):format(root, folder))
    assert.equal("", err)
    assert.is_true((tonumber(last_line(out):match "^test accuracy (%d%.%d%d%d%d)$") or 0) > 0.9, out)
  end)

  it("train_chargpt.lua learns a text and writes it", function()
    local file = folder .. "/text"
    local f = assert(io.open(file, "wb"))
    f:write(("the cat sat on the mat. "):rep(200))
    f:close()
    local arguments = "--steps 200 --batch 8 --context 16 --layers 1 --width 32 --heads 2 --dropout 0 --lr 0.01 --write 48 --prompt 'the cat'"
    local out, err = run(("%sscripts/train_chargpt.lua '%s' %s --temperature 0.2"):format(root, file, arguments))
    assert.equal("", err)
    assert.is_true((tonumber(out:match "step 200  loss (%S+)") or 9) < 0.3, out)
    assert.truthy(("the cat sat on the mat. "):rep(4):find(last_line(out), 1, true), out)
    err = select(2, run(("%sscripts/train_chargpt.lua /nowhere/text"):format(root)))
    assert.truthy(err:find "^train_chargpt: /nowhere/text: [^\n]*\n$", err)
  end)

  -- Runs an example that must end well and be silent on standard error; returns the numbers of its last line, and all it printed.
  local function figures(arguments)
    local out, err, ok = run(root .. "scripts/" .. arguments)
    assert.same({ "", true }, { err, ok })
    local numbers = {}
    for number in last_line(out):gmatch "%d+%.%d+" do numbers[#numbers + 1] = tonumber(number) end
    return numbers, out
  end

  it("train_cifar.lua trains on textures and on CIFAR-10's files, and goes on from a checkpoint", function()
    local accuracy, out = figures "train_cifar.lua --synthetic --limit 600 --epochs 4 --batch 32 --lr 0.03"
    assert.truthy(out:find("ResNet-20 with 269722 parameters", 1, true)) -- those of the paper's network of this depth
    assert.is_true(accuracy[1] > 0.35, out) -- chance is 0.1
    local records = {}
    for x, y in nn.datasets.textures({ train = 60, test = 1 }):iter() do
      records[#records + 1] = string.char(y:item() - 1) .. x:permute({ 3, 1, 2 }):contiguous():tostring_bytes()
    end
    for i, name in ipairs { "data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch" } do
      local f = assert(io.open(("%s/%s.bin"):format(folder, name), "wb"))
      f:write(table.concat(records, "", 10 * i - 9, 10 * i))
      f:close()
    end
    local arguments = ("train_cifar.lua --data '%s' --batch 16 --save '%s/cifar.h5'"):format(folder, folder)
    assert.truthy(select(2, figures(arguments .. " --epochs 1")):find "epoch 1/1 ")
    out = select(2, figures(("%s --epochs 2 --resume '%s/cifar.h5'"):format(arguments, folder)))
    assert.truthy(out:find "epoch 2/2 " and not out:find "epoch 1/2 ")
    local _, err, ok = run(root .. "scripts/train_cifar.lua --data /nowhere/at/all")
    assert.is_false(ok)
    assert.truthy(err:find "^train_cifar: cifar10: there is no folder /nowhere/at/all [^\n]*\n$", err)
  end)

  it("train_autoencoder.lua gives digits back", function()
    local mse, out = figures "train_autoencoder.lua --synthetic --limit 2000 --epochs 5 --batch 32 --lr 0.002"
    assert.is_true(mse[1] < 0.5 * mse[2], out)
    assert.truthy(out:find "[▀▄█]")
  end)

  it("train_gan.lua draws what a classifier takes for digits", function()
    local score, out = figures "train_gan.lua --synthetic --limit 1000 --batch 32 --width 16 --lr 0.001 --steps 200"
    assert.is_true(score[1] > 2.5 and score[2] > 8, out) -- without training: 1
  end)

  it("train_text.lua reads the order of words, where counting them is not enough, and files", function()
    local accuracy, out = figures "train_text.lua --sentences 2000 --epochs 10 --batch 32 --hidden 32 --length 24"
    assert.is_true(accuracy[1] > 0.95 and accuracy[2] < 0.9, out)
    local file = folder .. "/lines"
    local function write(line)
      local f = assert(io.open(file, "w"))
      for i = 1, 60 do f:write(line:format(("yes no"):match(i % 2 == 0 and "^%a+" or "%a+$"), i % 2 == 0 and "fine" or "bad"), "\n") end
      f:close()
    end
    write "%s\tit is %s"
    assert.equal(1, figures(("train_text.lua --data '%s' --epochs 8 --lr 0.03 --hidden 8 --length 5 --batch 8"):format(file))[1])
    write "%s it is %s"
    local _, err = run(("%sscripts/train_text.lua --data '%s'"):format(root, file))
    assert.equal(("train_text: %s:1: expected a label, a tab and a text\n"):format(file), err)
  end)

  it("train_timeseries.lua forecasts better than the day before does", function()
    local mae, out = figures "train_timeseries.lua --hours 3000 --epochs 3 --batch 32"
    assert.is_true(mae[1] < 0.6 * mae[2] and mae[2] > 0.5, out)
  end)

  it("train_dqn.lua balances the pole", function()
    local returns, out = figures "train_dqn.lua --goal 100 --rounds 3000"
    assert.is_true(returns[1] > 60, out) -- a network that has not learned gets 9, random pushes 22
  end)

  it("train_mnist.lua trains, prints one line per epoch, and the accuracy last", function()
    local out, err = train "--epochs 3 --batch 32 --lr 0.003"
    assert.equal("", err)
    local accuracy = tonumber(last_line(out):match "^test accuracy (%d%.%d%d%d%d)$")
    assert.is_true(accuracy and accuracy > 0.9, out)
    local _, lines = out:gsub("\nepoch %d/3  [%d.]+ s  loss [%d.]+  accuracy [%d.]+  val_loss [%d.]+  val_accuracy [%d.]+", "")
    assert.equal(3, lines, out)
    assert.is_nil(out:find("\r", 1, true))
  end)

  it("train_mnist.lua --device vulkan reaches the accuracy of the CPU", function()
    if #nn.devices() == 1 then return pending "there is no Vulkan device" end
    local function on(device)
      local out, err = train("--epochs 3 --batch 32 --lr 0.003 --device " .. device)
      assert.equal("", err)
      local loss, seen = out:match "epoch 3/3  [%d.]+ s  loss ([%d.]+)  accuracy ([%d.]+)"
      return tonumber(last_line(out):match "^test accuracy (%d%.%d%d%d%d)$"), tonumber(loss), tonumber(seen)
    end
    local accuracy, loss, seen = on "cpu"
    local accuracy_there, loss_there, seen_there = on "vulkan"
    assert.is_true(accuracy_there > 0.9 and math.abs(accuracy_there - accuracy) <= 0.02, accuracy_there)
    assert.is_true(math.abs(loss_there - loss) <= 0.02 and math.abs(seen_there - seen) <= 0.02, loss_there)
  end)

  it("train_mnist.lua gives the same result for the same seed in any number of threads, and another for another seed", function()
    local function result(arguments) return (train("--epochs 1 " .. arguments):gsub("  %d+%.%d s  ", " ")) end
    local first = result "--seed 3 --threads 1"
    assert.equal(first, result "--seed 3 --threads 2")
    assert.equal(first, result "--seed 3 --threads 3")
    assert.are_not.equal(first, result "--seed 4 --threads 1")
  end)

  it("train_mnist.lua tells of mistakes in one line", function()
    for _, case in ipairs {
      { "--epoch 3", 'unknown option "--epoch"; did you mean "--epochs"?' }, { "--model rnn", "must be one of mlp, cnn" },
      { "--batch 0", "must be at least 1" }, { "--device abacus", "no device" },
    } do
      local out, err, ok = train(case[1])
      assert.is_false(ok)
      assert.equal("", out)
      assert.truthy(err:find(case[2], 1, true), err)
      assert.truthy(err:find "^train_mnist[^\n]*\n$", err)
    end
    local _, err, ok = run(root .. "scripts/train_mnist.lua --data /nowhere/at/all")
    assert.is_false(ok)
    assert.truthy(err:find "^train_mnist: [^\n]*/nowhere/at/all[^\n]*\n$", err)
    local file = folder .. "/mlp.h5"
    train(("--epochs 1 --save '%s'"):format(file))
    for _, case in ipairs {
      { "--resume /nowhere/a.h5", "/nowhere/a.h5: No such file" }, { "--save /nowhere/a.h5", "there is no folder /nowhere/" },
      { ("--model cnn --resume '%s'"):format(file), "a checkpoint of another model: weight 1 is dense.kernel (f32 784x128) in the file" },
      { ("--resume '%s/train-labels-idx1-ubyte'"):format(folder), "cannot resume" },
    } do
      _, err, ok = train(case[1])
      assert.is_false(ok)
      assert.truthy(err:find(case[2], 1, true), err)
      assert.truthy(err:find "^[^\n]*\n$", err)
    end
    local out = run(root .. "scripts/train_mnist.lua --help")
    assert.truthy(out:find "usage: nnlua train_mnist.lua")
  end)

  it("train_mnist.lua resumed in a new process equals one run, to the bit", function()
    for _, model in ipairs { "mlp", "cnn" } do
      local a, b = folder .. "/a.h5", folder .. "/b.h5"
      local straight = train(("--model %s --epochs 2 --save '%s'"):format(model, a))
      train(("--model %s --epochs 1 --save '%s'"):format(model, b))
      local resumed = train(("--model %s --epochs 2 --seed 99 --resume '%s' --save '%s'"):format(model, b, b))
      local function second(text) return text:match("epoch 2/2  [%d.]+ s (.*)$") end
      assert.is_truthy(second(straight))
      assert.equal(second(straight), second(resumed))
      local one, two = assert(nn.load(a)):weights(), assert(nn.load(b)):weights()
      for i, w in ipairs(one) do assert.equal(w.tensor:tostring_bytes(), two[i].tensor:tostring_bytes(), w.name) end
    end
  end)

  it("train_mnist.lua stopped by Ctrl-C has saved, and goes on exactly", function()
    local a, b = folder .. "/c.h5", folder .. "/d.h5"
    local arguments = "--epochs 250 --batch 32"
    local straight = train(("%s --save '%s'"):format(arguments, a))
    local command = ("timeout -s INT %%s '%s' %sscripts/train_mnist.lua --data '%s' %s --save '%s' %%s >'%s/log' 2>&1"):format(sys.exe_path(), root,
      folder, arguments, b, folder)
    local stopped = 0
    for _, seconds in ipairs { "0.2", "0.25" } do
      local _, _, code = os.execute(command:format(seconds, sys.file_exists(b) and ("--resume '%s'"):format(b) or ""))
      if code == 124 then stopped = stopped + 1 end -- what timeout returns when time was out
    end
    assert.is_true(stopped > 0)
    local resumed = train(("%s %s --save '%s'"):format(arguments, sys.file_exists(b) and ("--resume '%s'"):format(b) or "", b))
    assert.equal(last_line(straight), last_line(resumed))
    local one, two = assert(nn.load(a)), assert(nn.load(b))
    for i, w in ipairs(one:weights()) do assert.equal(w.tensor:tostring_bytes(), two:weights()[i].tensor:tostring_bytes(), w.name) end
    assert.same(one.progress.history, two.progress.history)
  end)
end)
