--- Training: compile, fit, evaluate, predict, train_on_batch, test_on_batch; methods of every module.
--
-- Owns: which file has what. training/compile.lua: losses and metrics of each output; training/feed.lua: batches of what the user gave;
-- training/batch.lua: one step; training/fit.lua: the loop over epochs; training/predict.lua: evaluate, predict and single batches;
-- training/history.lua: what was measured. All of it is made of the same public pieces as a loop by hand: the call of the module, a loss, an
-- optimizer, metrics.
--
--     local nn = require "nnlua"
--     nn.seed(1)
--     local x = nn.tensor{ {0, 0}, {0, 1}, {1, 0}, {1, 1} }
--     local y = nn.tensor({ 1, 2, 2, 1 }, { dtype = "i64" })
--     local model = nn.Sequential{ nn.Input{2}, nn.Dense{16, activation = "tanh"}, nn.Dense{2} }
--     model:compile{ optimizer = nn.optim.Adam{ lr = 0.05 }, loss = "sparse_categorical_crossentropy", from_logits = true, metrics = { "accuracy" } }
--     local history = model:fit{ x, y, epochs = 60, batch_size = 4, verbose = 0 }
--     local loss, m = model:evaluate(x, y)
--     print(m.accuracy, #history.loss, loss < 0.1)  --> 1.0  60  true

for _, file in ipairs { "compile", "predict", "fit" } do require("nnlua.training." .. file) end

return { History = require "nnlua.training.history" }
