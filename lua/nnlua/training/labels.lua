--- Raw labels of predictions: `model:predict(x):labels()`.
--
-- Owns: which label encoder (nn.data.LabelEncoder) belongs to which predictions. fit takes it from the data set and leaves it in model.labels;
-- files keep it.
--
--     local nn = require "nnlua"
--     local scores = nn.tensor{ {0.1, 0.9}, {0.7, 0.3} }
--     print(table.concat(scores:labels{ "cat", "dog" }, " "))   --> dog cat

local options = require "nnlua.options"

local encoders = setmetatable({}, { __mode = "k" }) -- predictions -> { encoder =, threshold = of yes or no }

local labels = {}

--- These are predictions of `model`.
function labels.remember(pred, model)
  local encoder, c = rawget(model, "labels"), rawget(model, "compiled")
  if encoder then encoders[pred] = { encoder = encoder, threshold = c and c.outputs[1].from_logits and 0 or 0.5 } end
end

-- The class ids of scores: (..., classes), (..., 1) of yes or no, or ids already.
local function ids_of(t, encoder, threshold)
  local dtype = t:dtype()
  if dtype == "i64" or dtype == "i32" then return t end
  local last = t:dim() > 0 and t:size(-1) or 0
  if last == #encoder and last > 1 then return t:argmax(-1) end
  if last == 1 and #encoder == 2 then return t:gt(threshold):long():squeeze(-1) + 1 end
  options.raise(("labels: predictions with %d classes, but %d labels"):format(last, #encoder))
end

--- The raw labels of the likeliest classes of predictions (N, classes), or of class ids, as a list (nested as the ids are). `encoder` is a
--- LabelEncoder or a list of labels by class id; predictions of a model that was trained on a data set with labels know theirs.
---@param t nnlua.Tensor
---@param encoder? nnlua.LabelEncoder|any[]
---@return any[]
function labels.of(t, encoder)
  local known = encoders[t] or {}
  encoder = encoder or known.encoder
  if type(encoder) == "table" and not encoder.decode then encoder = require("nnlua.data").LabelEncoder { values = encoder } end
  if type(encoder) ~= "table" then
    options.raise "labels: no label encoder is known for this tensor; give one, or a list of labels: predictions:labels{\"cat\", \"dog\"}"
  end
  return encoder:decode(ids_of(t, encoder, known.threshold or 0.5))
end

return labels
