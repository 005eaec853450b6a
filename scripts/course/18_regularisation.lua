-- Lecture 18: regularisation.
-- You learn: a network with far more weights than samples learns the noise by heart; it shows as a gap between the losses on training and on
-- validation data. Against it: a penalty on large weights (l2), a limit on them, dropout, and stopping in time.
local nn = require "nnlua"

local function samples(n) -- a wave of the first of ten numbers, and noise
  local x = nn.uniform({ n, 10 }, -1, 1)
  return x, (x[{ {}, { 1, 1 } }] * 3):sin() + nn.normal({ n, 1 }, 0, 0.3)
end
nn.seed(2)
local x, y = samples(60)
local val_x, val_y = samples(500)

local function train(o)
  nn.seed(1)
  local function dense(units, activation)
    return nn.Dense { units, activation = activation, regularizer = o.regularizer, constraint = o.constraint }
  end
  local model = nn.Sequential { nn.Input { 10 }, dense(64, "relu"), nn.Dropout { o.dropout or 0 }, dense(64, "relu"), dense(1) }
  model:compile { optimizer = nn.optim.Adam { lr = 0.005 }, loss = "mse" }
  local history = model:fit { x, y, epochs = 150, batch_size = 20, verbose = 0, validation = { val_x, val_y }, callbacks = o.callbacks }
  local squares = 0
  for _, p in ipairs(model:named_parameters()) do
    if p.name:find "kernel$" then squares = squares + p.tensor:square():sum():item() end
  end
  local function error_on(a, b) return (model:predict(a) - b):square():mean():item() end
  return { train = error_on(x, y), val = error_on(val_x, val_y), norm = math.sqrt(squares), epochs = #history.loss }
end

print "60 samples, 4929 weights, noise of deviation 0.3: no network can do better than 0.09 on new data.\n"
print "                       training   validation   norm of weights   epochs"
local results = {}
for _, case in ipairs {
  { "nothing", {} },
  { "l2 = 0.03", { regularizer = nn.regularizers.l2 { 0.03 } } },
  { "l1 = 0.01", { regularizer = nn.regularizers.l1 { 0.01 } } },
  { "max_norm = 0.3", { constraint = nn.constraints.max_norm { 0.3 } } },
  { "dropout = 0.5", { dropout = 0.5 } },
  { "stop in time", { callbacks = { nn.callbacks.EarlyStopping { patience = 10, restore_best = true } } } },
} do
  local r = train(case[2])
  results[case[1]] = r
  print(("  %-18s %10.4f %12.4f %17.2f %8d"):format(case[1], r.train, r.val, r.norm, r.epochs))
end

local plain = results.nothing
assert(plain.val > 5 * plain.train, "without regularisation the network has learned the noise")
for name, r in pairs(results) do assert(name == "nothing" or r.val < plain.val, name) end
assert(results["l2 = 0.03"].norm < plain.norm and results["stop in time"].epochs < 150)
assert(results["l1 = 0.01"].val < 0.7 * plain.val)
print(("\nWithout help the loss on new data is %.0f times that on the training data. l1 helps most here: nine of the ten inputs mean"):format(
  plain.val / plain.train))
print "nothing, and it puts weights to zero. Which help is best depends on the data: that is what validation data are for."
