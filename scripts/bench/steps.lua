-- Milliseconds of one training step, for the models that scripts in other systems measure too: one line each, median and minimum over steps.
-- Input is made up and has the real shapes, so only computing is timed. usage: nnlua bench/steps.lua [--device NAME] [threads] [name ...]
local here = arg[0]:match "^(.*[/\\])" or ""
local timing, models = dofile(here .. "timing.lua"), dofile(here .. "models.lua")

for _, name in ipairs { "mlp_784_128_10_b64", "mlp_784_512_512_10_b128", "mnist_cnn_b64", "lstm_28x28_h128_b64", "resnet20_cifar_b64",
  "chargpt_L4_d128_T64_b12" } do
  timing.row(name, function() timing.bench(name, models[name]()) end)
end
