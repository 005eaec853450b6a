--- Losses as functions under PyTorch's names: `nn.mse_loss`, `nn.cross_entropy`, ... (Keras's names and meanings are in nn.losses.)
--
-- Owns: their formulas. reduction: "mean" (default), "sum" or "none". Classes are in the last dim, ids count from 1; predictions and targets have
-- one shape: a loss never broadcasts. Formulas are written so that value and gradient stay finite wherever the true ones are.

local core = require "nnlua.core"
local define = require "nnlua.functional.define"
local shapes = require "nnlua.functional.shapes"

local M = {}

local RED = ", S(mean|sum|none) reduction = mean"

local function reduced(values, reduction)
  if reduction == "mean" then return values:mean() end
  return reduction == "sum" and values:sum() or values
end

local function same_shape(owner, x, target, what)
  local a, b = define.shape_text(x), define.shape_text(target)
  if a ~= b then define.fail(owner, "predictions (%s) and %s (%s) must have the same shape", a, what or "targets", b) end
end

-- log(1 + e^x) with the exact gradient, 0 included.
local function softplus(x)
  local m = x:detach():relu()
  return m + core.log(core.exp(x - m) + core.exp(-m))
end

-- A loss of (x, target[, more]) element by element.
local function elementwise(name, more, doc, formula)
  define.op(M, ("%s(T x, T target%s%s)"):format(name, more, RED), doc, function(x, target, ...)
    same_shape(name, x, target)
    local args = table.pack(...)
    local reduction = args[args.n]
    return reduced(formula(shapes.real(x), target, table.unpack(args, 1, args.n - 1)), reduction)
  end)
end

-- ---- regression --------------------------------------------------------------------------------------------------------

--     local nn = require "nnlua"
--     local x, t = nn.tensor{1, 2, 3}, nn.tensor{1, 4, 3}
--     print(nn.mse_loss(x, t, "sum"):item(), nn.l1_loss(x, t, "sum"):item(), nn.huber_loss(x, t, 1, "sum"):item())  --> 4.0 2.0 1.5

elementwise("mse_loss", "", "(x - target)^2", function(x, t) return (x - t):square() end)
elementwise("l1_loss", "", "|x - target|", function(x, t) return (x - t):abs() end)
elementwise("smooth_l1_loss", ", F beta = 1", "|x - target| - beta / 2, and (x - target)^2 / (2 beta) where it is below beta", function(x, t, beta)
  local d = (x - t):abs()
  if beta == 0 then return d end
  return core.where(d:lt(beta), d:square() * (0.5 / beta), d - 0.5 * beta)
end)
elementwise("huber_loss", ", F delta = 1", "(x - target)^2 / 2 where |x - target| <= delta, linear beyond", function(x, t, delta)
  local d = (x - t):abs()
  return core.where(d:le(delta), d:square() * 0.5, (d - 0.5 * delta) * delta)
end)
elementwise("poisson_nll_loss", ", B log_input = true, B full = false, F eps = 1e-8",
  "-log of the Poisson probability of target under rate x (its log: log_input)",
  function(x, t, log_input, full, eps)
    local loss = log_input and core.exp(x) - t * x or x - t * core.log(x + eps)
    if full then -- Stirling's approximation of log(target!), for targets above 1
      local big = shapes.real(core.where(t:gt(1), t, 1))
      loss = loss + core.where(t:gt(1), big * core.log(big) - big + 0.5 * core.log(big * (2 * math.pi)), 0)
    end
    return loss
  end)

define.op(M, "gaussian_nll_loss(T x, T target, T var, B full = false, F eps = 1e-6" .. RED .. ")",
  "-log of the normal density of target under mean x and variance var (at least eps); full: with the constant",
  function(x, target, var, full, eps, reduction)
    same_shape("gaussian_nll_loss", x, target)
    local low = var:detach():lt(eps)
    var = core.where(low, eps - var:detach(), 0) + var -- the limit does not change the gradient
    local loss = (core.log(var) + (x - target):square() / var) * 0.5
    return reduced(full and loss + 0.5 * math.log(2 * math.pi) or loss, reduction)
  end)

-- ---- classification ----------------------------------------------------------------------------------------------------

-- Ids as i64 with the ignored ones replaced by 1, and 1 where an id counts (nil: everywhere).
local function checked_ids(owner, x, ids, ignore)
  local s = x:shape()
  local want = table.concat(s, "x", 1, #s - 1)
  if #s < 1 or define.shape_text(ids) ~= (#s == 1 and "scalar" or want) then
    define.fail(owner, "predictions (%s) need class ids of shape (%s), got (%s)", define.shape_text(x), want, define.shape_text(ids))
  end
  if shapes.is_real(ids) or ids:dtype() == "bool" then define.fail(owner, "class ids must be integers, got %s", ids:dtype()) end
  ids = ids:long()
  if not ignore then return ids end
  local counts = ids:ne(ignore)
  return core.where(counts, ids, 1), counts:float()
end

local function check_weight(owner, x, weight)
  if weight and define.shape_text(weight) ~= tostring(x:size(-1)) then
    define.fail(owner, "weight must have %d elements, its shape is (%s)", x:size(-1), define.shape_text(weight))
  end
end

-- The weight of each row: that of its class, 0 where the id is ignored. nil: all 1.
local function row_weights(ids, counts, weight)
  if not weight then return counts end
  local w = core.index_select(weight, 1, ids:reshape(-1)):reshape(ids:shape())
  return counts and w * counts or w
end

-- sum(values) / sum(w), NaN when nothing counts; the gradient of that is 0, as PyTorch's, so that such a batch spoils no weights.
local function mean_by(values, w)
  local total = w:sum()
  local none = total:eq(0)
  return values:sum() / core.where(none, 1, total) + core.where(none, 0 / 0, 0)
end

-- As PyTorch: the mean is weighted.
local function weighted(values, w, reduction)
  if w then values = values * w end
  if reduction == "mean" and w then return mean_by(values, w) end
  return reduced(values, reduction)
end

--- -logp[id] of log-probabilities (..., classes) and ids (...).
--
--     local nn = require "nnlua"
--     local logp = nn.log(nn.tensor{ {0.5, 0.5}, {0.25, 0.75} })
--     print(("%.4f"):format(nn.nll_loss(logp, nn.tensor({ 1, 1 }, { dtype = "i64" })):item()))  --> 1.0397
define.op(M, "nll_loss(T x, T ids, T? weight, I? ignore_id" .. RED .. ")",
  "-x[id] of log-probabilities (...,classes); the mean is weighted by the classes' weights",
  function(x, ids, weight, ignore, reduction)
    check_weight("nll_loss", x, weight)
    local at, counts = checked_ids("nll_loss", x, ids, ignore)
    return weighted(core.nll(x, at), row_weights(at, counts, weight), reduction)
  end)

local function entropy_of_ids(x, ids, weight, ignore, reduction, smoothing)
  local at, counts = checked_ids("cross_entropy", x, ids, ignore)
  local w = row_weights(at, counts, weight)
  local values = core.softmax_cross_entropy(x, at)
  if smoothing == 0 then return weighted(values, w, reduction) end
  local logp, c = x:log_softmax(-1), x:size(-1)
  local smooth = -(weight and logp * weight or logp):sum(-1) -- each class with its own weight
  if counts then smooth = smooth * counts end
  values = (w and values * w or values) * (1 - smoothing) + smooth * (smoothing / c)
  if reduction == "mean" and w then return mean_by(values, w) end
  return reduced(values, reduction)
end

--- Cross-entropy of scores (..., classes) with class ids (...), or with probabilities of the scores' shape.
--
--     local nn = require "nnlua"
--     local scores = nn.tensor{ {2, 1, 0}, {0, 3, 0} }
--     print(("%.4f"):format(nn.cross_entropy(scores, nn.tensor({1, 2}, {dtype = "i64"})):item()))            --> 0.2513
--     print(("%.4f"):format(nn.cross_entropy(scores, nn.tensor{ {1, 0, 0}, {0, 1, 0} }):item()))              --> 0.2513
define.op(M, "cross_entropy(T x, T target, T? weight, I? ignore_id" .. RED .. ", F label_smoothing = 0)",
  "cross-entropy of scores (...,classes) with ids, or with probabilities of the same shape", function(x, target, weight, ignore, reduction, smoothing)
    local owner = "cross_entropy"
    if not (smoothing >= 0 and smoothing <= 1) then define.fail(owner, "label_smoothing = %g is not in 0..1", smoothing) end
    check_weight(owner, x, weight)
    if x:dim() == target:dim() + 1 then return entropy_of_ids(x, target, weight, ignore, reduction, smoothing) end
    same_shape(owner, x, target)
    if ignore then define.fail(owner, "ignore_id has no meaning for probabilities") end
    if smoothing > 0 then target = target * (1 - smoothing) + smoothing / x:size(-1) end
    local logp = x:log_softmax(-1)
    return reduced(-(weight and logp * target * weight or logp * target):sum(-1), reduction)
  end)

--     local nn = require "nnlua"
--     local p, t = nn.tensor{0.5, 0.25}, nn.tensor{1, 0}
--     print(("%.4f"):format(nn.binary_cross_entropy(p, t):item()))                                 --> 0.4904
--     print(("%.4f"):format(nn.kl_div(nn.log(p), nn.tensor{0.5, 0.5}, "sum"):item()))             --> 0.3466

-- log(p), -100 at 0 as in PyTorch
local function safe_log(p)
  local some = p:gt(1e-38)
  return core.where(some, core.log(core.where(some, p, 1)), -100)
end

define.op(M, "binary_cross_entropy(T x, T target, T? weight" .. RED .. ")",
  "-(target * log(x) + (1 - target) * log(1 - x)) of probabilities x; logs are -100 at least",
  function(x, target, weight, reduction)
    same_shape("binary_cross_entropy", x, target)
    local values = -(safe_log(x) * target + safe_log(1 - x) * (1 - target))
    return reduced(weight and values * weight or values, reduction)
  end)

--- Binary cross-entropy of scores, without overflow.
--
--     local nn = require "nnlua"
--     print(("%.4f"):format(nn.binary_cross_entropy_with_logits(nn.tensor{0, 200}, nn.tensor{1, 1}, { reduction = "sum" }):item()))  --> 0.6931
define.op(M, "binary_cross_entropy_with_logits(T x, T target, T? weight, T? pos_weight" .. RED .. ")",
  "binary_cross_entropy of sigmoid(x), without overflow; pos_weight multiplies the part of target = 1",
  function(x, target, weight, pos_weight, reduction)
    same_shape("binary_cross_entropy_with_logits", x, target)
    local values = (1 - target) * x + softplus(-x) * (pos_weight and (pos_weight - 1) * target + 1 or 1)
    return reduced(weight and values * weight or values, reduction)
  end)

define.op(M, "kl_div(T x, T target, S(mean|sum|none|batchmean) reduction = mean, B log_target = false)",
  "target * (log(target) - x) for log-probabilities x", function(x, target, reduction, log_target)
    same_shape("kl_div", x, target)
    local values
    if log_target then
      values = core.exp(target) * (target - x)
    else
      local some = target:gt(0)
      values = core.where(some, target * core.log(core.where(some, target, 1)), 0) - target * x
    end
    if reduction == "batchmean" then return values:sum() / x:size(1) end
    return reduced(values, reduction)
  end)

-- ---- margins -----------------------------------------------------------------------------------------------------------

-- max(x, 0) with the gradient 1 at 0, where these losses of PyTorch's have it
local function above(x) return core.clamp(x, 0) end

--     local nn = require "nnlua"
--     local x, t = nn.tensor{0.5, 2}, nn.tensor{1, -1}
--     print(nn.hinge_loss(x, t, "sum"):item(), nn.margin_ranking_loss(x, nn.zeros(2), t, 0, "sum"):item())  --> 3.5 2.0

elementwise("hinge_embedding_loss", ", F margin = 1", "x where target is 1, max(0, margin - x) where it is -1", function(x, t, margin)
  return core.where(t:eq(1), x, 0) + core.where(t:eq(-1), above(margin - x), 0)
end)
elementwise("hinge_loss", "", "max(0, 1 - target * x) for targets -1 and 1", function(x, t) return core.relu(1 - x * t) end)
elementwise("squared_hinge_loss", "", "max(0, 1 - target * x)^2 for targets -1 and 1", function(x, t) return core.relu(1 - x * t):square() end)
elementwise("soft_margin_loss", "", "log(1 + exp(-target * x)) for targets -1 and 1", function(x, t) return softplus(-(x * t)) end)

define.op(M, "multi_margin_loss(T x, T ids, I p = 1, F margin = 1, T? weight" .. RED .. ")",
  "mean over the other classes' max(0, margin - x[id] + x[class])^p", function(x, ids, p, margin, weight, reduction)
    local owner = "multi_margin_loss"
    if p ~= 1 and p ~= 2 then define.fail(owner, "p must be 1 or 2, got %d", p) end
    check_weight(owner, x, weight)
    local at = checked_ids(owner, x, ids)
    local c = x:size(-1)
    local chosen = core.one_hot(at, c):bool()
    local own = core.where(chosen, x, 0):sum(-1, true)
    local values = core.relu(x - own + margin)
    if p == 2 then values = values:square() end
    if weight then values = values * row_weights(at, nil, weight):unsqueeze(-1) end
    return reduced(core.where(chosen, 0, values):sum(-1) / c, reduction)
  end)

define.op(M, "multilabel_margin_loss(T x, T ids" .. RED .. ")",
  "for each class that ids (...,classes; up to the first 0) name, mean over the classes they don't name of max(0, 1 - x[id] + x[class]); reads ids",
  function(x, ids, reduction)
    local owner = "multilabel_margin_loss"
    same_shape(owner, x, ids, "ids")
    if x:dim() < 1 then define.fail(owner, "scores (..., classes) are needed") end
    if shapes.is_real(ids) or ids:dtype() == "bool" then define.fail(owner, "class ids must be integers, got %s", ids:dtype()) end
    local c, shape, named = x:size(-1), x:shape(), {}
    for row, list in ipairs(ids:reshape { -1, c }:totable()) do
      named[row] = {}
      for k = 1, c do named[row][k] = 0 end
      for _, id in ipairs(list) do
        if id == 0 then break end
        if id < 1 or id > c then define.fail(owner, "class id %d in row %d is not in 1..%d", id, row, c) end
        named[row][id] = 1
      end
    end
    local mask = core.tensor(named, { dtype = "f32" }):reshape(shape)
    local pairs_of = core.relu(x:unsqueeze(-2) - x:unsqueeze(-1) + 1) * mask:unsqueeze(-1) * (1 - mask):unsqueeze(-2)
    return reduced(pairs_of:sum { -1, -2 } / c, reduction)
  end)

define.op(M, "multilabel_soft_margin_loss(T x, T target, T? weight" .. RED .. ")", "mean over classes of binary_cross_entropy_with_logits",
  function(x, target, weight, reduction)
    same_shape("multilabel_soft_margin_loss", x, target)
    check_weight("multilabel_soft_margin_loss", x, weight)
    local values = softplus(-x) * target + softplus(x) * (1 - target)
    return reduced((weight and values * weight or values):mean(-1), reduction)
  end)

define.op(M, "margin_ranking_loss(T x1, T x2, T target, F margin = 0" .. RED .. ")",
  "max(0, margin - target * (x1 - x2)); target 1: x1 is to be the larger, -1: x2",
  function(x1, x2, target, margin, reduction)
    same_shape("margin_ranking_loss", x1, x2, "x2")
    same_shape("margin_ranking_loss", x1, target)
    return reduced(above(margin - target * (x1 - x2)), reduction)
  end)

local function p_norm(d, p, keepdim)
  if p == 2 then return core.sqrt(d:square():sum(-1, keepdim)) end
  if p == 1 then return d:abs():sum(-1, keepdim) end
  if p == math.huge then return d:abs():amax(-1, keepdim) end
  return (d:abs() ^ p):sum(-1, keepdim) ^ (1 / p)
end

--- p-norm of x1 - x2 + eps over the last dim.
--
--     local nn = require "nnlua"
--     print(("%.3f"):format(nn.pairwise_distance(nn.tensor{ {0, 0} }, nn.tensor{ {3, 4} }):item()))  --> 5.000
define.op(M, "pairwise_distance(T x1, T x2, F p = 2, F eps = 1e-6, B keepdim = false)", "p-norm of x1 - x2 + eps over the last dim",
  function(x1, x2, p, eps, keepdim) return p_norm(x1 - x2 + eps, p, keepdim) end)

define.op(M, "triplet_margin_loss(T anchor, T positive, T negative, F margin = 1, F p = 2, F eps = 1e-6, B swap = false" .. RED .. ")",
  "max(0, distance(anchor, positive) - distance(anchor, negative) + margin)", function(a, pos, neg, margin, p, eps, swap, reduction)
    same_shape("triplet_margin_loss", a, pos, "positives")
    same_shape("triplet_margin_loss", a, neg, "negatives")
    local near, far = p_norm(a - pos + eps, p), p_norm(a - neg + eps, p)
    if swap then far = core.minimum(far, p_norm(pos - neg + eps, p)) end
    return reduced(above(near - far + margin), reduction)
  end)

--- Cosine of the angle between x1 and x2 along dim.
--
--     local nn = require "nnlua"
--     print(("%.2f"):format(nn.cosine_similarity(nn.tensor{ {3, 4} }, nn.tensor{ {4, 3} }, -1):item()))  --> 0.96
define.op(M, "cosine_similarity(T x1, T x2, D dim = -1, F eps = 1e-8)", "x1 . x2 / (|x1| |x2|) along dim, the denominator at least eps",
  function(x1, x2, dim, eps)
  local squares = x1:square():sum(dim) * x2:square():sum(dim)
  return (x1 * x2):sum(dim) * core.rsqrt(squares:clamp(eps * eps, math.huge))
end)

define.op(M, "cosine_embedding_loss(T x1, T x2, T target, F margin = 0" .. RED .. ")",
  "1 - cosine where target is 1, max(0, cosine - margin) where it is -1",
  function(x1, x2, target, margin, reduction)
    same_shape("cosine_embedding_loss", x1, x2, "x2")
    local squares = (x1:square():sum(-1) + 1e-12) * (x2:square():sum(-1) + 1e-12)
    local cosine = (x1 * x2):sum(-1) * core.rsqrt(squares)
    same_shape("cosine_embedding_loss", cosine, target)
    local values = core.where(target:eq(1), 1 - cosine, 0) + core.where(target:eq(-1), above(cosine - margin), 0)
    return reduced(values, reduction)
  end)

-- ---- ctc ---------------------------------------------------------------------------------------------------------------

local NEVER = -1e30 -- log of 0 that arithmetic and gradients survive

-- log(e^a + e^b + e^c); gradients are the shares
local function log_add(a, b, c)
  local m = core.maximum(core.maximum(a, b), c):detach()
  return m + core.log(core.exp(a - m) + core.exp(b - m) + core.exp(c - m))
end

local function lengths_of(owner, v, n, most, what)
  local list = v and (define.is_tensor(v) and v:totable() or v)
  if not list then
    list = {}
    for i = 1, n do list[i] = most end
  end
  if #list ~= n then define.fail(owner, "%s needs %d entries, one per sequence, got %d", what, n, #list) end
  for i = 1, n do
    if not (list[i] >= 0 and list[i] <= most) then define.fail(owner, "%s[%d] = %s is not in 0..%d", what, i, tostring(list[i]), most) end
  end
  return list
end

-- Targets with a blank around every label: ids, and 0 or NEVER where the label before last may not be skipped to; (N, 2 * S + 1).
local function with_blanks(targets, lengths, blank, width)
  local ids, skip = {}, {}
  for i, row in ipairs(targets) do
    ids[i], skip[i] = {}, {}
    for k = 1, width do
      local label = k % 2 == 0 and k // 2 <= lengths[i] and row[k // 2] or blank
      ids[i][k] = label
      skip[i][k] = k > 2 and label ~= blank and label ~= ids[i][k - 2] and 0 or NEVER
    end
  end
  return core.tensor(ids, { dtype = "i64" }), core.tensor(skip, { dtype = "f32" })
end

local function shifted(a, by) -- one or two places to the right, NEVER in front
  local n, width = a:size(1), a:size(2)
  return core.cat({ core.full({ n, by }, NEVER), a[{ {}, { 1, width - by } }] }, 2)
end

--- Connectionist temporal classification: -log of the probability that log-probabilities x (N, T, classes) spell the targets (N, S). The mean
--- divides each sequence's loss by its target's length first, as in PyTorch. `blank` is class 1.
--
--     local nn = require "nnlua"
--     local x = nn.log(nn.tensor{ { {0.5, 0.5}, {0.5, 0.5} } })
--     print(("%.4f"):format(nn.ctc_loss(x, nn.tensor({ {2} }, { dtype = "i64" })):item()))   --> 0.2877
define.op(M, "ctc_loss(T x, T targets, TT? input_lengths, TT? target_lengths, I blank = 1" .. RED .. ", B zero_infinity = false)",
  "-log probability that x (N,T,classes; log-probabilities) spells targets (N,S), which are read at once",
  function(x, targets, input_lengths, target_lengths, blank, reduction, zero_infinity)
    local owner = "ctc_loss"
    if x:dim() ~= 3 or targets:dim() ~= 2 or targets:size(1) ~= x:size(1) or x:size(2) < 1 or targets:size(2) < 1 then
      define.fail(owner, "log-probabilities (N,T,classes) and targets (N,S) are needed, got (%s) and (%s)", define.shape_text(x),
        define.shape_text(targets))
    end
    local n, steps, classes = x:size()
    local width = 2 * targets:size(2) + 1
    local steps_of = lengths_of(owner, input_lengths, n, steps, "input_lengths")
    local labels_of = lengths_of(owner, target_lengths, n, targets:size(2), "target_lengths")
    local ids, skip = with_blanks(targets:totable(), labels_of, blank, width)
    local base = core.arange(0, n * steps, 1, "i64"):reshape { n, steps, 1 } * classes
    local spelt = core.add(base, ids:unsqueeze(2))
    if not (ids:amin():item() >= 1 and ids:amax():item() <= classes) then define.fail(owner, "targets and blank must be in 1..%d", classes) end
    local emit = core.index_select(shapes.real(x):reshape(-1), 1, spelt:reshape(-1)):clamp(NEVER, math.huge)
    emit = emit:reshape { n, steps, width }:permute(2, 1, 3)
    local start, ends = {}, {}
    for k = 1, width do start[k] = k <= 2 and 0 or NEVER end
    for i = 1, n do
      ends[i] = {}
      for k = 1, width do ends[i][k] = (k == 2 * labels_of[i] + 1 or k == 2 * labels_of[i]) and 0 or NEVER end
      if labels_of[i] == 0 then ends[i][1] = 0 end
    end
    local a = core.tensor(start, { dtype = "f32" }) + emit[1]
    for t = 2, steps do
      local new = log_add(a, shifted(a, 1), shifted(a, 2) + skip) + emit[t]
      local live = {}
      for i = 1, n do live[i] = { t <= steps_of[i] } end
      a = core.where(core.tensor(live, { dtype = "bool" }), new, a)
    end
    local loss = -core.logsumexp(core.maximum(a + core.tensor(ends, { dtype = "f32" }), NEVER), -1)
    local impossible = loss:detach():gt(-NEVER / 2)
    loss = core.where(impossible, zero_infinity and 0 or math.huge, loss)
    if reduction ~= "mean" then return reduced(loss, reduction) end
    local share = {}
    for i = 1, n do share[i] = 1 / math.max(labels_of[i], 1) end
    return (loss * core.tensor(share, { dtype = loss:dtype() })):mean()
  end)

return M
