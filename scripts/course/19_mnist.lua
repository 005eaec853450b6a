-- Lecture 19: MNIST, with all building blocks: `nnlua scripts/course/19_mnist.lua --limit 4000 --epochs 3`.
-- You learn: the three steps of every project: preprocess the data, build the model, train and estimate; and where each lecture before has its place.
-- MNIST is read from --data or from where nn.datasets.mnist looks; --synthetic takes generated digits instead.
local nn = require "nnlua"

local opt = nn.options.parse_args(arg, {
  about = "Train a network on handwritten digits with everything that the lectures before have shown.",
  { "limit", "integer", default = 4000, min = 100, help = "training images" },
  { "epochs", "integer", default = 3, min = 1, help = "passes over the training images" },
  { "data", "string", value = "DIR", help = "folder of the four MNIST files" },
  { "synthetic", "flag", help = "generated digits, no files" },
})
nn.seed(1)

-- 1. Preprocess: a data set (3), class ids for digits (13), shuffled batches, augmentation (14).
local train, test
if opt.synthetic then train, test = nn.datasets.digits { train = opt.limit, test = 1000 } else train, test = nn.datasets.mnist { dir = opt.data } end
if not train then
  io.stderr:write(test, "\n")
  os.exit(1, true)
end
train, test = train:take(opt.limit), test:take(2000)
print("training data: " .. tostring(train))

-- 2. Build: a graph of layers (2, 4). Dense layers (6, 7), he_normal weights (15), batch norm before the activation (17), leaky relu (8), dropout
-- (16), a penalty on weights (18); ten scores, of which softmax (10) is a part of the loss.
local model = nn.Sequential {
  nn.Input { 28, 28, 1 }, nn.Rescaling { 1 / 255 }, nn.RandomTranslation { 0.07, 0.07, fill_mode = "constant", interpolation = "nearest" },
  nn.Conv2D { 8, 3, strides = 2, activation = "relu" }, nn.Flatten {},
  nn.Dense { 128, init = "he_normal", regularizer = nn.regularizers.l2 { 1e-4 } }, nn.BatchNorm {}, nn.LeakyReLU { 0.01 }, nn.Dropout { 0.2 },
  nn.Dense { 10 },
}
model:summary()
assert(#model:lint() == 0, "lint finds nothing to remark")

-- 3. Train and estimate: back-propagation (5) of the cross-entropy (11), watched for dead units and vanishing gradients (8, 9).
model:compile { optimizer = nn.optim.Adam { lr = 2e-3, clipnorm = 5 }, loss = "sparse_categorical_crossentropy", from_logits = true,
  metrics = { "accuracy" } }
local health = nn.callbacks.Health { every = 20, write = function() end }
local history = model:fit { train:shuffle(10000):batch(64):prefetch(2), epochs = opt.epochs, verbose = 0, callbacks = { health } }
for epoch, loss in ipairs(history.loss) do print(("epoch %d  loss %.4f  accuracy %.4f"):format(epoch, loss, history.accuracy[epoch])) end
local flags = 0
for _, row in ipairs(health.rows) do flags = flags + #row.flags end
print(("Health: %d remarks about %d layers"):format(flags, #health.rows))

local _, figures = model:evaluate(test:batch(256))
for x, y in test:take(12):batch(12):iter() do
  print("digits     " .. table.concat(test.labels:decode(y), " "))
  print("predicted  " .. table.concat(test.labels:decode(model:predict(x):argmax(-1)), " "))
end
print(("test accuracy %.4f"):format(figures.accuracy))
assert(figures.accuracy > 0.8, "a network that has learned reads four of five digits at least")
