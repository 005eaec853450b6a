-- Train an autoencoder that keeps a digit in a few numbers: `nnlua train_autoencoder.lua`. At the end it draws some of the test images, and below
-- them what comes back. The last line printed is the mean squared error of a pixel (0 to 1), beside that of the mean image.
-- With default options on MNIST, seeds 1 to 3: 0.00763, 0.00748, 0.00728; the mean image 0.06747.
local nn = require "nnlua"

local opt, must = nn.script(arg, {
  about = "Train an autoencoder on handwritten digits.",
  { "code", "integer", default = 32, min = 1, help = "numbers that an image is kept in" },
  { "hidden", "integer", default = 256, min = 1, help = "units of the layers between" },
  { "epochs", "integer", default = 5, min = 1, help = "passes over the training images" },
  { "batch", "integer", default = 128, min = 1, help = "images per step" },
  { "lr", "number", default = 1e-3, above = 0, help = "learning rate of Adam" },
  { "noise", "number", default = 0, min = 0, help = "deviation of noise on what comes in: a denoising autoencoder" },
  { "data", "string", value = "DIR", help = "folder of the four MNIST files" },
  { "synthetic", "flag", help = "generated digits instead" },
  { "limit", "integer", min = 10, help = "use so many of the training images, and a fifth as many to test" },
  { "save", "string", value = "FILE", help = "write a checkpoint after each epoch" },
  { "resume", "string", value = "FILE", help = "go on from a checkpoint; --epochs counts from the very beginning" },
})

local train, test
if opt.synthetic then
  train, test = nn.datasets.digits()
else
  train, test = must(nn.datasets.mnist { dir = opt.data })
end
if opt.limit then train, test = train:take(opt.limit), test:take(opt.limit // 5) end

-- The target of an image is the image.
local function both(x)
  x = x:float() / 255
  return x, x
end

local model = nn.Sequential {
  nn.Input { 28, 28, 1 }, nn.GaussianNoise { opt.noise }, nn.Flatten {},
  nn.Dense { opt.hidden, activation = "relu" }, nn.Dense { opt.code, name = "code" },
  nn.Dense { opt.hidden, activation = "relu" }, nn.Dense { 28 * 28, activation = "sigmoid" }, nn.Reshape { 28, 28, 1 },
}
model:summary()
model:compile { optimizer = nn.optim.Adam { lr = opt.lr }, loss = "binary_crossentropy", metrics = { "mse" } }
model:fit {
  train:shuffle(60000):batch(opt.batch):map(both), epochs = opt.epochs, validation = test:batch(256):map(both),
  save = opt.save, resume = opt.resume,
}

-- What is gained over an answer that is always the same: the mean of the training images.
local sum, count, error_of_mean, n = nn.zeros(28, 28, 1), 0, 0, 0
for x in train:batch(1000):map(both):iter() do sum, count = sum + x:sum(1), count + #x end
for x in test:batch(1000):map(both):iter() do
  error_of_mean, n = error_of_mean + (x - sum / count):square():mean():item() * #x, n + #x
end

local shown = test:batch(8):map(both):iter()()
print(nn.picture(nn.cat({ shown, model:predict(shown) }, 1), { columns = 8 }))
local _, m = model:evaluate(test:batch(256):map(both))
print(("test mse %.5f, of the mean image %.5f"):format(m.mse, error_of_mean / n))
