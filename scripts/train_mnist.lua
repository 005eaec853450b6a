-- Train a network on MNIST: `nnlua train_mnist.lua --model cnn --epochs 1`. The last line printed is its accuracy on the test images.
local nn = require "nnlua"

local opt, must = nn.script(arg, {
  about = "Train a network to read handwritten digits.",
  { "model", "choice", choices = { "mlp", "cnn" }, default = "mlp", help = "one hidden layer, or two convolutions" },
  { "epochs", "integer", default = 3, min = 1, help = "passes over the training images" },
  { "batch", "integer", default = 64, min = 1, help = "images per step" },
  { "lr", "number", default = 1e-3, above = 0, help = "learning rate of Adam" },
  { "data", "string", value = "DIR", help = "folder of the four MNIST files" },
  { "save", "string", value = "FILE", help = "write a checkpoint after each epoch" },
  { "resume", "string", value = "FILE", help = "go on from a checkpoint; --epochs counts from the very beginning" },
})

local train, test = must(nn.datasets.mnist { dir = opt.data })

local layers = {
  mlp = function()
    return nn.Sequential {
      nn.Input { 28, 28, 1 }, nn.Rescaling { 1 / 255 }, nn.Flatten {},
      nn.Dense { 128, activation = "relu" },
      nn.Dense { 10 },
    }
  end,
  cnn = function()
    return nn.Sequential {
      nn.Input { 28, 28, 1 }, nn.Rescaling { 1 / 255 },
      nn.Conv2D { 32, 3, activation = "relu" }, nn.Conv2D { 64, 3, activation = "relu" }, nn.MaxPooling2D { 2 }, nn.Dropout { 0.25 },
      nn.Flatten {}, nn.Dense { 128, activation = "relu" }, nn.Dropout { 0.5 },
      nn.Dense { 10 },
    }
  end,
}
local model = layers[opt.model]()
model:summary()
model:compile {
  optimizer = nn.optim.Adam { lr = opt.lr },
  loss = "sparse_categorical_crossentropy", from_logits = true,
  metrics = { "accuracy" },
}

model:fit {
  train:shuffle(60000):batch(opt.batch):prefetch(2),
  epochs = opt.epochs, validation = test:batch(256),
  save = opt.save, resume = opt.resume,
}

local _, m = model:evaluate(test:batch(256))
print(("test accuracy %.4f"):format(m.accuracy))
