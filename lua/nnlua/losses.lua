--- Losses: `nn.losses`. Functions of (predictions, targets[, options]) that give a tensor to call backward() on.
--
-- Owns: what a loss is called, which shapes it takes and how it is averaged. The last dim of predictions holds the classes; class ids are 1-based.
-- Options: `from_logits` (predictions are scores before softmax) and `reduction`: "mean" (default), "sum" or "none" (one value per sample).
--
--     local nn = require "nnlua"
--     local scores = nn.tensor{ {2, 1, 0}, {0, 3, 0} }
--     local ids = nn.tensor({1, 2}, {dtype = "i64"})
--     print(("%.4f"):format(nn.losses.cross_entropy(scores, ids):item()))   --> 0.2513
--
-- Shapes must fit exactly: a loss never broadcasts.

local core = require "nnlua.core"
local options = require "nnlua.options"
local shape_text = require("nnlua.module").shape_text

local losses = {}

local EPSILON = 1e-7 -- Keras's: probabilities are kept this far from 0 and 1

local spec = {
  from_logits = { "boolean", default = false },
  reduction = { "string", default = "mean", choices = { "mean", "sum", "none" } },
}
local spec_plain = { reduction = spec.reduction }

local known = setmetatable({}, { __mode = "k" }) -- options that were checked before: a loss is called at every step

local function checked(owner, given, rules)
  if given == nil or known[given] then return given end
  local o = options.check(owner, given, rules)
  known[o] = true
  return o
end

local function reduced(values, o)
  if not o or o.reduction == "mean" then return values:mean() end
  return o.reduction == "sum" and values:sum() or values
end

local function same_shape(a, b)
  if #a ~= #b then return false end
  for i = 1, #a do
    if a[i] ~= b[i] then return false end
  end
  return true
end

-- Predictions as rows (N, classes) and ids as (N); a last dim of 1 of the ids is dropped.
local function rows_and_ids(owner, pred, ids)
  local p, t = pred:shape(), ids:shape()
  local classes = p[#p]
  if #t == #p and t[#t] == 1 and #p > 1 then
    ids = ids:squeeze(-1)
    t[#t] = nil
  end
  local want = table.move(p, 1, #p - 1, 1, {})
  if #p < 2 or not same_shape(t, want) then
    local one_hot = same_shape(p, t) and "; for one-hot targets use categorical_crossentropy" or ""
    options.raise(("%s: predictions of shape (%s) need class ids of shape (%s), got (%s)%s"):format(owner, shape_text(p),
      shape_text(want), shape_text(t), one_hot))
  end
  if #p > 2 then
    pred, ids = pred:reshape { -1, classes }, ids:reshape { -1 }
  end
  local dtype = ids:dtype()
  if dtype ~= "i64" and dtype ~= "i32" then ids = ids:long() end
  return pred, ids, #p > 2 and want
end

--- Cross-entropy of class ids (N) under predictions (N, classes), which are probabilities or, with from_logits, scores.
---@param pred nnlua.Tensor
---@param ids nnlua.Tensor
---@param given? { from_logits?: boolean, reduction?: string }
---@return nnlua.Tensor
function losses.sparse_categorical_crossentropy(pred, ids, given)
  local o = checked("sparse_categorical_crossentropy", given, spec)
  local rows, flat, shape = rows_and_ids("sparse_categorical_crossentropy", pred, ids)
  local values
  if o and o.from_logits then
    values = core.softmax_cross_entropy(rows, flat)
  else
    values = core.nll(rows:clamp(EPSILON, 1 - EPSILON):log(), flat)
  end
  if shape and o and o.reduction == "none" then values = values:reshape(shape) end
  return reduced(values, o)
end

--- PyTorch's name: cross-entropy of class ids under scores (logits), averaged.
---@param logits nnlua.Tensor
---@param ids nnlua.Tensor
---@return nnlua.Tensor
function losses.cross_entropy(logits, ids)
  local rows, flat = rows_and_ids("cross_entropy", logits, ids)
  return core.softmax_cross_entropy(rows, flat):mean()
end

local function exact(owner, pred, target)
  if not same_shape(pred:shape(), target:shape()) then
    local p, t = pred:shape(), target:shape()
    local ids = #t == #p - 1 and "; for class ids use sparse_categorical_crossentropy" or ""
    options.raise(("%s: predictions (%s) and targets (%s) must have the same shape%s"):format(owner, shape_text(p), shape_text(t),
      owner == "categorical_crossentropy" and ids or ""))
  end
end

--- Cross-entropy of target probabilities (one-hot rows) under predictions of the same shape.
---@param pred nnlua.Tensor
---@param target nnlua.Tensor
---@param given? { from_logits?: boolean, reduction?: string }
---@return nnlua.Tensor
function losses.categorical_crossentropy(pred, target, given)
  local o = checked("categorical_crossentropy", given, spec)
  exact("categorical_crossentropy", pred, target)
  local logp = o and o.from_logits and pred:log_softmax(-1) or pred:clamp(EPSILON, 1 - EPSILON):log()
  return reduced(-(target * logp):sum(-1), o)
end

--- Mean of squared differences.
---@param pred nnlua.Tensor
---@param target nnlua.Tensor
---@param given? { reduction?: string }
---@return nnlua.Tensor
function losses.mean_squared_error(pred, target, given)
  local o = checked("mean_squared_error", given, spec_plain)
  exact("mean_squared_error", pred, target)
  local squares = (pred - target):square()
  return reduced(squares:dim() > 1 and squares:mean(-1) or squares, o)
end
losses.mse = losses.mean_squared_error

local takes_logits = {
  [losses.sparse_categorical_crossentropy] = true,
  [losses.categorical_crossentropy] = true,
}

--- The function of `spec` (a name or a function), with `from_logits` bound when it is given.
---@param loss string|function
---@param from_logits? boolean
---@return function apply
---@return string name
function losses.get(loss, from_logits)
  local f, name = loss, "function"
  if type(loss) == "string" then
    f, name = loss ~= "get" and losses[loss], loss
    if not f then
      local names = {}
      for key in pairs(losses) do
        if key ~= "get" then names[#names + 1] = key end
      end
      table.sort(names)
      local near = options.nearest(loss, names)
      options.raise(("unknown loss %q%s (valid: %s)"):format(loss, near and ('; did you mean "' .. near .. '"?') or "", table.concat(names, ", ")))
    end
  end
  if from_logits == nil then return f, name end
  if not takes_logits[f] then options.raise(("from_logits has no meaning for the loss %s"):format(name)) end
  local o = checked(name, { from_logits = from_logits }, spec)
  return function(pred, target) return f(pred, target, o) end, name
end

return losses
