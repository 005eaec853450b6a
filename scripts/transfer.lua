-- Transfer learning: a network that has learnt the digits 0 to 4 reads 5 to 9 after seeing a few of each. `nnlua transfer.lua`; with
-- `--base keras:mobilenet_v2` (or a file, see nn.hub) a network from elsewhere is the base. The last line compares it with learning from scratch.
local nn = require "nnlua"

local opt = nn.options.parse_args(arg, {
  about = "Freeze a trained network, give it a new head, fine-tune.",
  { "base", "string", value = "HANDLE", help = 'a model for nn.hub.load: a file, an address, "keras:mobilenet_v2"; by default one is trained here' },
  { "prepare", "string", value = "MODEL", help = "the base wants pictures as this model of nn.applications does; by default its name tells" },
  { "data", "string", value = "DIR", help = "folder of the four MNIST files; by default digits are generated" },
  { "samples", "integer", default = 10, min = 1, help = "of each of the five new digits" },
  { "save", "string", value = "FILE", help = "write the result, for example flowers.keras" },
  { "seed", "integer", default = 1, help = "of everything that is random" },
  { "quick", "flag", help = "less data and fewer epochs" },
})
nn.seed(opt.seed)

local function must(value, message, ...)
  if value == nil then
    io.stderr:write("transfer: ", tostring(message), "\n")
    os.exit(1, true)
  end
  return value, message, ...
end

-- All pictures and class ids of a data set, in two tasks: digits 0 to 4, and 5 to 9 with ids from 1.
local function tasks_of(ds, most)
  local x, y = ds:batch(most):iter()()
  local function part(mask, shift)
    local at = mask:nonzero():reshape(-1)
    return { x = x:index_select(1, at), y = y:index_select(1, at) - shift }
  end
  return part(y:le(5), 0), part(y:gt(5), 5)
end

local train, test
if opt.data then train, test = must(nn.datasets.mnist { dir = opt.data })
else train, test = nn.datasets.digits { train = opt.quick and 4000 or 12000, test = 1000 } end
local first, second = tasks_of(train, opt.quick and 4000 or 20000)
local _, second_test = tasks_of(test, opt.quick and 1000 or 10000)

-- The first `samples` pictures of each new digit.
local few = {}
for id = 1, 5 do few[id] = second.y:eq(id):nonzero():reshape(-1):narrow(1, 1, opt.samples) end
few = nn.cat(few, 1)
few = { x = second.x:index_select(1, few), y = second.y:index_select(1, few) }

local function compiled(model, lr)
  model:compile { optimizer = nn.optim.Adam { lr = lr }, loss = "sparse_categorical_crossentropy", from_logits = true, metrics = { "accuracy" } }
  return model
end
local function fit(model, part, lr, epochs)
  compiled(model, lr):fit { nn.data.from_tensors { part.x, part.y }:shuffle(20000):batch(32), epochs = epochs, verbose = 0 }
end
local function accuracy(model)
  local _, metrics = model:evaluate { nn.data.from_tensors { second_test.x, second_test.y }:batch(256), verbose = 0 }
  return metrics.accuracy
end

-- A small network whose layer "features" is what a new head stands on.
local function small()
  local x = nn.Input { 28, 28, 1 }
  local h = nn.MaxPooling2D { 2 }(nn.Conv2D { 16, 3, activation = "relu" }(nn.Rescaling { 1 / 255 }(x)))
  h = nn.MaxPooling2D { 2 }(nn.Conv2D { 32, 3, activation = "relu" }(h))
  h = nn.Dense { 64, activation = "relu", name = "features" }(nn.Flatten {}(h))
  return nn.Model { inputs = x, outputs = nn.Dense { 5 }(h) }
end

-- The base, from pictures of 28x28x1 to features.
local base, features, x
if opt.base then
  local options = opt.base:find "^keras:" and { include_top = false, pooling = "avg", input_shape = { 96, 96, 3 } } or nil
  base = must(nn.hub.load(opt.base, options))
  local size = base.inputs[1].sample
  x = nn.Input { 28, 28, 1 }
  local h = nn.Resizing { size[1] > 0 and size[1] or 96, size[2] > 0 and size[2] or 96 }(x)
  if size[3] == 3 then h = nn.Concatenate {} { h, h, h } end
  local prepare = opt.prepare or nn.applications.preprocessing(base) and base -- else it does that itself, as models that were trained here do
  features = base(prepare and nn.applications.preprocess_input(prepare, h) or h)
  if #features.sample == 3 then features = nn.GlobalAveragePooling2D {}(features) end
else
  base = small()
  fit(base, first, 1e-3, opt.quick and 6 or 10)
  x, features = base.inputs[1], base:layer("features").output
end

base:freeze()
local model = nn.Model { inputs = x, outputs = nn.Dense { 5, name = "new_head" }(features) }
local epochs = opt.quick and 20 or 40
local trained, kept = model:count_params()
print(("new head: %d weights are trained, %d are kept"):format(trained, kept))
fit(model, few, 1e-2, epochs)
print(("accuracy with a new head      %.4f"):format(accuracy(model)))

base:unfreeze()
fit(model, few, 3e-4, epochs // 2)
local tuned = accuracy(model)
print(("accuracy after fine-tuning    %.4f"):format(tuned))
if opt.save then must(model:save(opt.save)) end

local scratch = small()
fit(scratch, few, 1e-3, epochs + epochs // 2)
print(("transfer accuracy %.4f, from scratch %.4f, on %d pictures of %d digits"):format(tuned, accuracy(scratch), #few.y, 5))
