-- Lecture 21: transfer learning.
-- You learn: a network that knows one task has features that help with another: load it, cut off its head, freeze the rest, train a new head on few
-- samples; then unfreeze and fine-tune with a small learning rate. Here: from the digits 0 to 4 to the digits 5 to 9.
local nn = require "nnlua"

nn.seed(1)
local all, all_test = nn.datasets.digits { train = 12000, test = 2000 }

-- Images and class ids 1..5 of the digits first..first + 4, at most n.
local function part(ds, first, n)
  local images, ids = ds:batch(#ds):iter()()
  local wanted = ids:ge(first + 1):logical_and(ids:le(first + 5)):nonzero():squeeze(-1)
  wanted = wanted[{ { 1, math.min(n, #wanted) } }]
  return images:index_select(1, wanted), ids:index_select(1, wanted) - first
end

local function network()
  return nn.Sequential { nn.Input { 28, 28, 1 }, nn.Rescaling { 1 / 255 }, nn.Conv2D { 8, 5, strides = 2, activation = "relu" },
    nn.Conv2D { 16, 3, strides = 2, activation = "relu" }, nn.Conv2D { 32, 3, activation = "relu" }, nn.Flatten { name = "features" },
    nn.Dropout { 0.5 }, nn.Dense { 64, activation = "relu" }, nn.Dropout { 0.5 }, nn.Dense { 5 } }
end
local function fit(model, rate, epochs, batch, x, y)
  model:compile { optimizer = nn.optim.Adam { lr = rate }, loss = "sparse_categorical_crossentropy", from_logits = true, metrics = { "accuracy" } }
  model:fit { x, y, epochs = epochs, batch_size = batch, verbose = 0 }
end
local function accuracy(model, x, y) return (select(2, model:evaluate(x, y))).accuracy end

local x, y = part(all, 0, 6000)
local model = network()
fit(model, 2e-3, 4, 64, x, y)
local file = os.tmpname()
assert(model:save(file))
print(("1. Pretrained on %d images of the digits 0 to 4 and saved: accuracy %.3f"):format(#x, accuracy(model, part(all_test, 0, 1000))))

local few_x, few_y = part(all, 5, 20) -- all there is of the new task
local test_x, test_y = part(all_test, 5, 1000)
local scratch = network()
fit(scratch, 2e-3, 40, 10, few_x, few_y)
local alone = accuracy(scratch, test_x, test_y)
print(("2. The digits 5 to 9 from %d images, from scratch: accuracy %.3f"):format(#few_x, alone))

local old = assert(nn.load(file))
os.remove(file)
local features = nn.Model { inputs = old.inputs, outputs = old:layer("features").output }:freeze()
local new = nn.Sequential { features, nn.Dropout { 0.5 }, nn.Dense { 5 } }
local before = features:get_weights()[1] + 0
fit(new, 5e-3, 40, 10, few_x, few_y)
assert((features:get_weights()[1] - before):abs():amax():item() == 0, "frozen weights stay")
local trained, frozen = new:count_params()
print(("3. Loaded, frozen, with a new head (%d weights are trained, %d are not): %.3f"):format(trained, frozen, accuracy(new, test_x, test_y)))
assert(accuracy(new, test_x, test_y) > alone)

features:unfreeze()
fit(new, 5e-4, 20, 10, few_x, few_y)
assert((features:get_weights()[1] - before):abs():amax():item() > 0)
print(("4. Unfrozen and fine-tuned with a tenth of the learning rate: %.3f"):format(accuracy(new, test_x, test_y)))
assert(accuracy(new, test_x, test_y) > alone + 0.03)
