--- Losses: `nn.losses`. Functions of (predictions, targets[, options]) that give a tensor to call backward() on.
--
-- Owns: what a loss is called, which shapes it takes and how it is averaged. The last dim of predictions holds the classes; class ids are 1-based.
-- Options: `from_logits` (predictions are scores before softmax or sigmoid), `reduction`: "mean" (default), "sum" or "none" (one value per sample,
-- the mean over its last dim), `sample_weight` (a tensor (N), or (N, T) for steps of sequences; values are multiplied by it, and the mean is still
-- over the number of values), and what the loss has of its own. Formulas and names are Keras's.
-- compile() takes a name, a function, or a table of a name and options: `loss = { "huber", delta = 2 }`, or, with Keras's names,
-- `loss = nn.losses.Huber{ delta = 2 }`, which can be called as well.
--
--     local nn = require "nnlua"
--     local scores = nn.tensor{ {2, 1, 0}, {0, 3, 0} }
--     local ids = nn.tensor({1, 2}, {dtype = "i64"})
--     print(("%.4f"):format(nn.losses.cross_entropy(scores, ids):item()))   --> 0.2513
--
-- Shapes must fit exactly: a loss never broadcasts.

local core = require "nnlua.core"
local options = require "nnlua.options"
local lists = require "nnlua.lists"
local masks = require "nnlua.mask"
local weighting = require "nnlua.weighting"
local shape_text = require("nnlua.module").shape_text
local real = require("nnlua.functional.shapes").real
local single = require("nnlua.policy").single -- losses of halves are f32

local losses = {}

local EPSILON = 1e-7 -- Keras's: probabilities are kept this far from 0 and 1

local common = {
  from_logits = { "boolean", default = false },
  reduction = { "string", default = "mean", choices = { "mean", "sum", "none" } },
  sample_weight = { "tensor" },
}
local rules_of = {} -- function -> the options it takes

-- The options of a loss: reduction, and those given.
local function with_reduction(more)
  local spec = { reduction = common.reduction, sample_weight = common.sample_weight }
  for key, rule in pairs(more or {}) do spec[key] = rule end
  return spec
end
local smoothing = { "number", default = 0, min = 0, max = 1 }
local spec = with_reduction { from_logits = common.from_logits, ignore_class = { "integer", min = 1 } }

local known = setmetatable({}, { __mode = "k" }) -- options that were checked before: a loss is called at every step

local function checked(owner, given, rules)
  if given == nil or known[given] then return given end
  local o = options.check(owner, given, rules)
  known[o] = true
  return o
end

-- Predictions that carry a mask (nnlua.mask), and values that `kept` (of their number) tells from others: what is left out counts 0, and the mean is
-- over the rest.
local function reduced(values, o, pred, kept)
  local mask, weight = masks.of(pred), o and o.sample_weight
  if kept then kept = kept:reshape(values:shape()) end
  if mask and mask:numel() == values:numel() then
    mask = mask:reshape(values:shape())
    kept = kept and kept:logical_and(mask) or mask
  end
  if kept then values = core.where(kept, values, 0) end
  if weight then
    if values:dim() == 0 then options.raise "sample_weight: this loss is one value for the whole batch" end
    values = values * weighting.fit(weight, values:shape())
  end
  if not o or o.reduction == "mean" then return kept and values:sum() / core.maximum(kept:to(values:dtype()):sum(), 1) or values:mean() end
  return o.reduction == "sum" and values:sum() or values
end

local function need_tensors(owner, pred, target)
  if not (core.is_tensor(pred) and core.is_tensor(target)) then
    options.raise(("%s: needs tensors of predictions and of targets, got %s and %s"):format(owner, options.shown(pred), options.shown(target)))
  end
end

-- Predictions as rows (N, classes) and ids as (N); a last dim of 1 of the ids is dropped.
local function rows_and_ids(owner, pred, ids)
  need_tensors(owner, pred, ids)
  local p, t = pred:shape(), ids:shape()
  local classes = p[#p]
  if #t == #p and t[#t] == 1 and #p > 1 then
    ids = ids:squeeze(-1)
    t[#t] = nil
  end
  local want = table.move(p, 1, #p - 1, 1, {})
  if #p < 2 or not lists.same(t, want) then
    local one_hot = lists.same(p, t) and "; for one-hot targets use categorical_crossentropy" or ""
    options.raise(("%s: predictions of shape (%s) need class ids of shape (%s), got (%s)%s"):format(owner, shape_text(p),
      shape_text(want), shape_text(t), one_hot))
  end
  if #p > 2 then
    pred, ids = pred:reshape { -1, classes }, ids:reshape { -1 }
  end
  local dtype = ids:dtype()
  if dtype ~= "i64" and dtype ~= "i32" then ids = ids:long() end
  pred = single(pred)
  return pred, ids, #p > 2 and want
end

-- Cross-entropy of class ids under predictions, by the options o (nil: the defaults).
local function of_ids(owner, pred, ids, o, from_logits)
  local rows, flat, shape = rows_and_ids(owner, pred, ids)
  local values, kept
  if o and o.ignore_class then
    kept = flat:ne(o.ignore_class)
    flat = core.where(kept, flat, 1)
  end
  if from_logits then
    values = core.softmax_cross_entropy(rows, flat)
  else
    values = core.nll(rows:clamp(EPSILON, 1 - EPSILON):log(), flat)
  end
  if shape and o and (o.reduction == "none" or o.sample_weight) then values = values:reshape(shape) end
  return reduced(values, o, pred, kept)
end

--- Cross-entropy of class ids (N) under predictions (N, classes), which are probabilities or, with from_logits, scores. Ids that are ignore_class
--- count 0 and are not in the mean.
---@param pred nnlua.Tensor
---@param ids nnlua.Tensor
---@param given? { from_logits?: boolean, reduction?: string, ignore_class?: integer, sample_weight?: nnlua.Tensor }
---@return nnlua.Tensor
function losses.sparse_categorical_crossentropy(pred, ids, given)
  local o = checked("sparse_categorical_crossentropy", given, spec)
  return of_ids("sparse_categorical_crossentropy", pred, ids, o, o and o.from_logits)
end
rules_of[losses.sparse_categorical_crossentropy] = spec

local scores_spec = with_reduction { ignore_class = spec.ignore_class }

--- PyTorch's name: cross-entropy of class ids under scores (logits); sparse_categorical_crossentropy with from_logits.
---@param logits nnlua.Tensor
---@param ids nnlua.Tensor
---@param given? { reduction?: string, ignore_class?: integer, sample_weight?: nnlua.Tensor }
---@return nnlua.Tensor
function losses.cross_entropy(logits, ids, given)
  return of_ids("cross_entropy", logits, ids, checked("cross_entropy", given, scores_spec), true)
end
rules_of[losses.cross_entropy] = scores_spec

local function exact(owner, pred, target)
  need_tensors(owner, pred, target)
  if not lists.same(pred:shape(), target:shape()) then
    local p, t = pred:shape(), target:shape()
    local ids = #t == #p - 1 and "; for class ids use sparse_categorical_crossentropy" or ""
    options.raise(("%s: predictions (%s) and targets (%s) must have the same shape%s"):format(owner, shape_text(p), shape_text(t),
      owner == "categorical_crossentropy" and ids or ""))
  end
end

-- Adds losses.<name>: values(pred, target, o) gives one value per sample, given options by name.
local function define(name, more, values)
  local rules = with_reduction(more)
  local defaults = options.check(name, {}, rules)
  losses[name] = function(pred, target, given)
    local o = checked(name, given, rules) or defaults
    exact(name, pred, target)
    return reduced(values((single(pred)), (single(target)), o), o, pred)
  end
  rules_of[losses[name]] = rules
end

-- As define, of predictions and targets of different shapes: values() checks them, and calls fail(what is needed).
local function own(name, more, values)
  local rules = with_reduction(more)
  local defaults = options.check(name, {}, rules)
  losses[name] = function(pred, target, given)
    local o = checked(name, given, rules) or defaults
    local function fail(needed)
      options.raise(("%s: needs %s, got predictions (%s) and targets (%s)"):format(name, needed, shape_text(pred:shape()),
        shape_text(target:shape())))
    end
    need_tensors(name, pred, target)
    local _ <close> = core.here(pred) -- what it makes lies there
    return reduced(values(pred, target, o, fail), o, pred)
  end
  rules_of[losses[name]] = rules
end

-- The mean over the last dim; what has but one dim holds one value per sample already.
local function per_sample(values) return values:dim() > 1 and values:mean(-1) or values end

-- ---- classes ---------------------------------------------------------------------------------------------------------

local function smoothed(target, o, classes)
  return o.label_smoothing > 0 and target * (1 - o.label_smoothing) + o.label_smoothing / classes or target
end

-- Cross-entropy of target probabilities (one-hot rows) under predictions of the same shape.
define("categorical_crossentropy", { from_logits = common.from_logits, label_smoothing = smoothing }, function(pred, target, o)
  local logp = o.from_logits and pred:log_softmax(-1) or pred:clamp(EPSILON, 1 - EPSILON):log()
  return -(smoothed(target, o, pred:size(-1)) * logp):sum(-1)
end)

-- -t log p - (1 - t) log(1 - p), element by element; of scores without overflow.
local function binary(pred, target, from_logits)
  if from_logits then return core.relu(pred) - pred * target + ((-pred:abs()):exp() + 1):log() end
  local p = pred:clamp(EPSILON, 1 - EPSILON)
  return -(target * p:log() + (1 - target) * (1 - p):log())
end

-- Cross-entropy of yes-or-no targets (0, 1, or a probability) under probabilities of yes.
define("binary_crossentropy", { from_logits = common.from_logits, label_smoothing = smoothing }, function(pred, target, o)
  return per_sample(binary(pred, smoothed(real(target), o, 2), o.from_logits))
end)

local focal = {
  from_logits = common.from_logits, label_smoothing = smoothing, alpha = { "number", default = 0.25, min = 0, max = 1 },
  gamma = { "number", default = 2, min = 0 }, apply_class_balancing = { "boolean", default = false },
}

-- Binary cross-entropy that counts easy samples less: times (1 - p of the truth)^gamma (Lin et al.).
define("binary_focal_crossentropy", focal, function(pred, target, o)
  target = smoothed(real(target), o, 2)
  local p = o.from_logits and pred:sigmoid() or pred
  local right = target * p + (1 - target) * (1 - p)
  local values = binary(pred, target, o.from_logits) * (1 - right):clamp(0, 1):pow(o.gamma)
  if o.apply_class_balancing then values = values * (target * o.alpha + (1 - target) * (1 - o.alpha)) end
  return per_sample(values)
end)

-- categorical_crossentropy that counts easy samples less: times alpha * (1 - p)^gamma (Lin et al.).
define("categorical_focal_crossentropy", { from_logits = common.from_logits, label_smoothing = smoothing, alpha = focal.alpha, gamma = focal.gamma },
  function(pred, target, o)
    local p = o.from_logits and pred:softmax(-1) or pred / pred:sum(-1, true)
    p = p:clamp(EPSILON, 1 - EPSILON)
    return -(smoothed(target, o, pred:size(-1)) * p:log() * (1 - p):pow(o.gamma)):sum(-1) * o.alpha
  end)

-- Targets 0 and 1 stand for -1 and 1.
local function signs(target)
  target = real(target)
  local zero_one = core.all(core.logical_or(target:eq(0), target:eq(1)))
  return core.where(zero_one, target * 2 - 1, target)
end

-- max(1 - t p, 0) for targets of -1 and 1 (or 0 and 1).
define("hinge", {}, function(pred, target) return per_sample(core.relu(1 - signs(target) * pred)) end)
-- The square of hinge.
define("squared_hinge", {}, function(pred, target) return per_sample(core.relu(1 - signs(target) * pred):square()) end)
-- By how much the best wrong class of a one-hot target comes within 1 of the right one.
define("categorical_hinge", {}, function(pred, target)
  return core.relu(((1 - target) * pred):amax(-1) - (target * pred):sum(-1) + 1)
end)

-- What target probabilities lose by being taken for the predictions.
define("kl_divergence", {}, function(pred, target)
  local t, p = target:clamp(EPSILON, 1), pred:clamp(EPSILON, 1)
  return (t * (t / p):log()):sum(-1)
end)

-- ---- numbers ---------------------------------------------------------------------------------------------------------

-- The square of the error.
define("mean_squared_error", {}, function(pred, target) return per_sample((pred - target):square()) end)
-- The size of the error.
define("mean_absolute_error", {}, function(pred, target) return per_sample((pred - target):abs()) end)
-- The size of the error in percent of the target's.
define("mean_absolute_percentage_error", {}, function(pred, target)
  return per_sample(((target - pred) / core.maximum(target:abs(), EPSILON)):abs()) * 100
end)
-- The square of the difference of log(1 + x).
define("mean_squared_logarithmic_error", {}, function(pred, target)
  local p, t = core.maximum(pred, EPSILON), core.maximum(target, EPSILON)
  return per_sample(((p + 1):log() - (t + 1):log()):square())
end)

-- Squares for small errors, absolute values beyond delta.
define("huber", { delta = { "number", default = 1, above = 0 } }, function(pred, target, o)
  local e = (pred - target):abs()
  return per_sample(core.where(e:le(o.delta), e:square() * 0.5, e * o.delta - 0.5 * o.delta ^ 2))
end)

-- huber / beta: PyTorch's smooth_l1.
define("smooth_l1", { beta = { "number", default = 1, above = 0 } }, function(pred, target, o)
  local e = (pred - target):abs()
  return per_sample(core.where(e:lt(o.beta), e:square() * (0.5 / o.beta), e - 0.5 * o.beta))
end)

-- log(cosh(error)): like half the square for small errors, like the absolute value for large ones.
define("log_cosh", {}, function(pred, target)
  local e = (pred - target):abs()
  return per_sample(e + ((e * -2):exp() + 1):log() - math.log(2))
end)

-- p - t log p: for counts, under a Poisson distribution with the mean p.
define("poisson", {}, function(pred, target) return per_sample(pred - target * (pred + EPSILON):log()) end)

local function unit(x) return x / core.maximum(x:square():sum(-1, true), 1e-12):sqrt() end

-- -1 where predictions point where targets do, 1 where they point the other way.
define("cosine_similarity", {}, function(pred, target) return -(unit(pred) * unit(target)):sum(-1) end)

-- Distances of pairs, and 1 for a pair that belongs together: those are pulled together, the others pushed to `margin` (Hadsell et al.).
define("contrastive", { margin = { "number", default = 1, above = 0 } }, function(pred, target, o)
  target = real(target)
  return per_sample(target * pred:square() + (1 - target) * core.relu(o.margin - pred):square())
end)

-- ---- regions: one value for the whole batch --------------------------------------------------------------------------

-- 1 - 2 |both| / (|predicted| + |true|).
define("dice", {}, function(pred, target)
  target = real(target)
  return 1 - (pred * target):sum() * 2 / (pred:sum() + target:sum() + EPSILON)
end)

-- dice with weights for what is wrongly found (alpha) and wrongly missed (beta).
define("tversky", { alpha = { "number", default = 0.5, min = 0 }, beta = { "number", default = 0.5, min = 0 } }, function(pred, target, o)
  target = real(target)
  local both = (pred * target):sum()
  local found, missed = (pred * (1 - target)):sum(), ((1 - pred) * target):sum()
  return 1 - both / (both + found * o.alpha + missed * o.beta + EPSILON)
end)

-- ---- pairs and neighbours: rows of predictions are points ---------------------------------------------------------------

-- Of each row of two scores the first should be larger by `margin` where the target (N) is 1, the second where it is -1. PyTorch's margin_ranking.
own("margin_ranking", { margin = { "number", default = 0 } }, function(pred, target, o, fail)
  if pred:dim() ~= 2 or pred:size(2) ~= 2 or target:numel() ~= pred:size(1) then fail "predictions (N, 2) and targets (N)" end
  local first, second = pred:narrow(2, 1, 1):reshape(-1), pred:narrow(2, 2, 1):reshape(-1)
  return core.relu((second - first) * real(target):reshape(-1) + o.margin)
end)

-- The negative logarithm of normal densities: predictions hold means and variances of the targets, (..., 2 * D) for (..., D). PyTorch's gaussian_nll.
own("gaussian_nll", { epsilon = { "number", default = 1e-6, above = 0 } }, function(pred, target, o, fail)
  local d = target:dim() > 0 and target:size(-1) or 0
  if pred:dim() ~= target:dim() or pred:size(-1) ~= 2 * d then fail "means and variances in the last dim, twice the size of the targets'" end
  local mean, variance = pred:narrow(-1, 1, d), core.maximum(pred:narrow(-1, d + 1, d), o.epsilon)
  return per_sample(((real(target) - mean):square() / variance + variance:log()) * 0.5)
end)

-- Cross-entropy of class ids under logarithms of probabilities. PyTorch's nll.
own("nll", {}, function(pred, target)
  local rows, ids, shape = rows_and_ids("nll", pred, target)
  local values = core.nll(rows, ids)
  return shape and values:reshape(shape) or values
end)

-- How unlikely it is that scores (N, T, classes) spell class ids (N, S), of which each may last and be followed by class `blank`; targets that are
-- shorter end in blanks. Keras's ctc. Reads the targets at once.
own("ctc", { blank = { "integer", default = 1, min = 1 } }, function(pred, target, o, fail)
  if pred:dim() ~= 3 or target:dim() ~= 2 or target:size(1) ~= pred:size(1) then fail "scores (N, T, classes) and class ids (N, S)" end
  local lengths = target:ne(o.blank):long():sum(2)
  return require("nnlua.functional.loss").ctc_loss(pred:log_softmax(-1), target:long(), {
    target_lengths = lengths, blank = o.blank, reduction = "none" })
end)

-- Which rows of a batch have the same id, and which are one and the same, as (N, N) masks.
local function relations(pred, target, fail)
  if pred:dim() ~= 2 or target:numel() ~= pred:size(1) then fail "predictions (N, D) and class ids (N)" end
  local ids, n = target:reshape(-1), pred:size(1)
  local at = core.arange(1, n + 1, 1, "i64")
  return ids:reshape(n, 1):eq(ids:reshape(1, n)), at:reshape(n, 1):eq(at:reshape(1, n))
end

-- Rows of one class are pulled together: each row's farthest neighbour of its class must be nearer, by `margin`, than its nearest of another (the
-- "batch hard" form of Hermans et al.). Rows without both count 0.
own("triplet", { margin = { "number", default = 1, min = 0 } }, function(pred, target, o, fail)
  local same, itself = relations(pred, target, fail)
  local squares = (pred:unsqueeze(2) - pred:unsqueeze(1)):square():sum(-1)
  local distance = core.sqrt(core.where(squares:gt(0), squares, 1)) * squares:gt(0):to(pred:dtype()) -- sqrt has no derivative at 0
  local friend = core.logical_and(same, itself:logical_not())
  local far = core.where(friend, distance, 0):amax(2)
  local near = core.where(same, math.huge, distance):amin(2)
  local counts = core.logical_and(friend:any(2), near:lt(math.huge))
  return core.where(counts, core.relu(far - core.where(counts, near, 0) + o.margin), 0)
end)

-- Cosines of rows of unit length, those within a class to be large, others small, the worse the more weight (Sun et al.). Keras's Circle.
own("circle", { gamma = { "number", default = 80, above = 0 }, margin = { "number", default = 0.4, min = 0 },
  remove_diagonal = { "boolean", default = true } }, function(pred, target, o, fail)
  local same, itself = relations(pred, target, fail)
  local cosine, m = pred:matmul(pred:transpose(1, 2)), o.margin
  local friend = o.remove_diagonal and core.logical_and(same, itself:logical_not()) or same
  local pull = core.relu(1 + m - cosine) * (1 - m - cosine) * o.gamma
  local push = core.relu(cosine + m) * (cosine - m) * o.gamma
  local none = -1e9 -- in place of -inf, whose gradient would be NaN
  local sum = core.logsumexp(core.where(friend, pull, none), 2) + core.logsumexp(core.where(same, none, push), 2)
  return core.softplus(sum)
end)

for alias, name in pairs {
  kl = "kl_divergence", cosine = "cosine_similarity",
  mse = "mean_squared_error", mae = "mean_absolute_error", mape = "mean_absolute_percentage_error", msle = "mean_squared_logarithmic_error",
  bce = "binary_crossentropy", kld = "kl_divergence", logcosh = "log_cosh",
} do
  losses[alias] = losses[name]
end

-- ---- by name ---------------------------------------------------------------------------------------------------------

-- A function of the user's: where it gives a value for each sample, they are weighted and averaged here.
local function of_function(f)
  return function(pred, target, weight)
    local values = f(pred, target)
    if core.is_tensor(values) and values:dim() > 0 and values:numel() > 1 then
      return reduced(values, { reduction = "mean", sample_weight = weight }, pred)
    end
    if weight then
      options.raise "sample_weight: the loss function must give one value for each sample, (N) or (N, T), to be weighted; it gave one for all"
    end
    return values
  end
end

--- The function of `spec` (a name, a function, or a table { name, option = ... }), with `from_logits` bound when it is given. It takes
--- predictions, targets and, where there are any, weights of the samples.
---@param loss string|function|table
---@param from_logits? boolean
---@return function apply
---@return string|table name for files: losses.get takes it back
function losses.get(loss, from_logits)
  local f, name, given = loss, "function", {}
  if type(loss) == "table" then
    for key, value in pairs(loss.options or loss) do
      if key ~= 1 then given[key] = value end
    end
    loss = loss.name or loss[1]
    if type(loss) ~= "string" then options.raise("a loss as a table begins with its name, { \"huber\", delta = 2 }, got " .. options.shown(loss)) end
  end
  if type(loss) == "string" then
    f, name = loss ~= "get" and rawget(losses, loss), loss
    if not f then
      local names = lists.sorted(losses, function(key) return key ~= "get" end)
      options.raise(("unknown loss %q%s (valid: %s)"):format(loss, options.advice(loss, names), table.concat(names, ", ")))
    end
  end
  if type(f) ~= "function" then options.raise("a loss must be a name, a function or a table of a name and options, got " .. options.shown(loss)) end
  local rules, plain = rules_of[f], from_logits == nil and next(given) == nil
  if not rules then
    if plain then return of_function(f), name end
    options.raise(("the loss %s takes no options"):format(name))
  end
  if from_logits ~= nil and not rules.from_logits then options.raise(("from_logits has no meaning for the loss %s"):format(name)) end
  local kept = next(given) and { name = name, options = given } or name
  local all = { from_logits = from_logits }
  for key, value in pairs(given) do all[key] = value end
  local o = checked(name, all, rules)
  return function(pred, target, weight)
    if not weight then
      if plain then return f(pred, target) end
      return f(pred, target, o)
    end
    local weighted = { sample_weight = weight }
    for key, value in pairs(o) do weighted[key] = value end
    known[weighted] = true
    return f(pred, target, weighted)
  end, kept
end

options.closed(setmetatable(losses, { rules_of = rules_of }), "nn.losses") -- nn.help tells the options

-- Keras's classes: nn.losses.Huber{ delta = 2 } is { "huber", delta = 2 }, and can be called.
local meta = getmetatable(losses)
local missing, bound = meta.__index, setmetatable({}, { __mode = "k" })
local Bound = { __name = "loss", __call = function(self, ...) return bound[self](...) end, __tostring = function(self) return "loss " .. self[1] end }

function meta.__index(t, key)
  local name = type(key) == "string" and key:find "^%u" and key:gsub("(%l)(%u)", "%1_%2"):gsub("(%u)(%u%l)", "%1_%2"):lower()
  if not name or not rawget(losses, name) or name == "get" then return missing(t, key) end
  return function(given)
    if given ~= nil and not options.is_plain(given) then
      options.raise(("%s: needs its options, nn.losses.%s{}, got %s; the function is nn.losses.%s"):format(key, key, options.shown(given), name))
    end
    local loss = { name }
    for option, value in pairs(given or {}) do
      if type(option) ~= "string" then options.raise(("%s: it takes named options only"):format(key)) end
      loss[option] = value
    end
    bound[loss] = losses.get(loss)
    return setmetatable(loss, Bound)
  end
end

return losses
