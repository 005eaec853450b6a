--- Callbacks: `nn.callbacks`. What `fit{ callbacks = { ... } }` does besides training.
--
-- Owns: which callbacks there are. A callback is a table with any of these methods, in the order in which fit calls them:
--
--   on_fit(model, options)               may change the options of fit
--   on_train_begin(model)                everything is loaded and where it should be
--   on_epoch_begin(model, epoch)
--   on_batch_begin(model, batch)         on_batch_end(model, batch): after the step; gradients are still there
--   on_test_begin(model)                 on_test_end(model): around the validation of an epoch, and evaluate{ callbacks = }
--   on_test_batch_begin(model, batch)    on_test_batch_end(model, batch)
--   on_epoch_end(model, epoch, logs)     logs: the figures by name, "val_..." among them
--   on_batch_saved(model, epoch, batch, logs)   of a callback with a field `batches`, after every so many batches: model.progress stands there; files
--   on_epoch_saved(model, epoch, logs)   model.progress stands at the end of the epoch: files are written here
--   on_train_end(model)
--   state(), set_state(state, model)     plain data that fit's files keep
--
-- predict{ callbacks = } calls on_predict_begin(model), on_predict_batch_begin(model, batch), on_predict_batch_end(model, batch),
-- on_predict_end(model).
-- `model.stop_training = true` ends training after the batch or epoch. A function in the list is an on_epoch_end(model, epoch, logs).
--
--     local nn = require "nnlua"
--     local x, y = nn.ones(4, 2), nn.zeros(4, 1)
--     local model = nn.Sequential{ nn.Input{2}, nn.Dense{1} }
--     model:compile{ optimizer = "sgd", loss = "mse" }
--     local seen = 0
--     local Count = { on_batch_end = function() seen = seen + 1 end }
--     local stop = nn.callbacks.EarlyStopping{ monitor = "loss", min_delta = 1e9 }
--     local history = model:fit{ x, y, epochs = 9, batch_size = 2, verbose = 0, callbacks = { Count, stop } }
--     print(seen, #history.loss)                    --> 4  2

local callbacks = {}
for _, file in ipairs { "control", "files", "health" } do
  for name, value in pairs(require("nnlua.callbacks." .. file)) do callbacks[name] = value end
end

return callbacks
