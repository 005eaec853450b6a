-- Lecture 18: regularisation.
-- You learn: a network with more weights than samples learns the noise by heart; it shows as a gap between training and validation loss. Against it: a
-- penalty on large weights (l2), a limit on them, dropout, and stopping in time.
local nn = require "nnlua"

local function samples(n)
  local x = nn.uniform({ n, 1 }, -1, 1)
  return x, (x * 4):sin() + nn.normal({ n, 1 }, 0, 0.3)
end
nn.seed(2)
local x, y = samples(16)
local val_x, val_y = samples(400)

local function train(o)
  nn.seed(1)
  local function dense(units, activation)
    return nn.Dense { units, activation = activation, regularizer = o.regularizer, constraint = o.constraint }
  end
  local powers = nn.Lambda { function(t) return nn.cat({ t, t ^ 2, t ^ 3, t ^ 4, t ^ 5, t ^ 6, t ^ 7, t ^ 8 }, -1) end }
  local model = nn.Sequential { nn.Input { 1 }, powers, dense(64, "relu"), nn.Dropout { o.dropout or 0 }, dense(64, "relu"), dense(1) }
  model:compile { optimizer = nn.optim.Adam { lr = 0.01 }, loss = "mse" }
  local history = model:fit { x, y, epochs = o.epochs or 300, batch_size = 16, verbose = 0, validation = { val_x, val_y }, callbacks = o.callbacks }
  local norm = 0
  for _, p in ipairs(model:named_parameters()) do
    if p.name:find "kernel$" then norm = norm + p.tensor:square():sum():item() end
  end
  local function error_on(a, b) return (model:predict(a) - b):square():mean():item() end
  return { train = error_on(x, y), val = error_on(val_x, val_y), norm = math.sqrt(norm), epochs = #history.loss }
end
