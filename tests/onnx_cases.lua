-- What onnx_spec.lua needs beside the library's table of ONNX's operators (nnlua.onnx.operators): operators that need the case's own view
-- (gradients, random draws, sequences, dropout in training), how results are judged where they are not the same number by number, and what is left
-- out.
--
-- operators[ONNX name] = { run = function(x, a, node, env) return results... end, judge = ... }, arguments and results as there.
-- judge(x, a, results, wanted): for what is not the same number by number. nil: compare as ever; else "" or what is wrong with the values (shapes
-- and dtypes were compared). outside: operators that are not in our catalogue. excluded: single cases, with the reason. rounded: cases whose
-- numbers are not exact.
local nn = require "nnlua"
local common = require "nnlua.onnx.common"

local dim, list, dtypes = common.dim, common.list, common.dtypes

local M = { operators = {}, outside = {}, excluded = {}, rounded = {} }
local ops = M.operators
for name, run in pairs(require "nnlua.onnx.operators") do ops[name] = { run = run } end

local function op(names, run, judge)
  for name in names:gmatch "%w+" do ops[name] = { run = run, judge = judge } end
end

-- ONNX 1.12 cuts floats off where they become bf16, ours go to the nearest: as near to x as ONNX's, and one of the two neighbours of x
local function rounded(x, results, wanted)
  if results[1]:dtype() ~= "bf16" then return nil end
  local from, ours, cut = list(x[1]), list(results[1]), list(wanted[1])
  for i, v in ipairs(from) do
    local off = math.abs(ours[i] - v)
    local same = ours[i] == v or (ours[i] ~= ours[i] and v ~= v)
    if not (same or off <= math.abs(cut[i] - v) and off <= 2 ^ -8 * math.abs(v)) then return ("element %d is %s for %s"):format(i, ours[i], v) end
  end
  return ""
end
for _, name in ipairs { "Cast", "CastLike" } do
  ops[name].judge = function(x, _, results, wanted) return rounded(x, results, wanted) end
end

-- ---- chance ---------------------------------------------------------------------------------------------------------
-- whether `share` of n independent draws with chance p is what chance gives: within 5 deviations
local function likely(share, p, n) return math.abs(share - p) <= 5 * math.sqrt(p * (1 - p) / n) end
local function drop_rate(x)
  local training = x[3] and (x[3]:item() == true or x[3]:item() == 1)
  return training and (x[2] and x[2]:item() or 0.5) or 0
end
op("Dropout", function(x)
  local p = drop_rate(x)
  local y = p > 0 and nn.dropout(x[1], p) or x[1]
  return y, p > 0 and y:ne(0) or nn.ne(x[1] * 0, 1)
end, function(x, _, results)
  local p = drop_rate(x)
  if p == 0 then return nil end
  local zero = results[1]:eq(0)
  local right = nn.where(zero, 0, x[1] / (1 - p))
  local near = (results[1] - right):abs():amax():item() < 1e-5
  if not near then return "what is not dropped must be x / (1 - p)" end
  if results[2] and nn.eq(results[2], zero):any():item() then return "the mask does not tell what was dropped" end
  local many = nn.dropout(nn.expand(x[1], { 500, table.unpack(x[1]:shape()) }), p)
  local share = many:eq(0):float():mean():item()
  return likely(share, p, many:numel()) and "" or ("a share of %g is dropped, expected %g"):format(share, p)
end)
local function chances(x, a) return nn.bernoulli(x[1]:shape(), x[1]):to(dtypes[a.dtype] or x[1]:dtype()) end
op("RandomUniformLike", function(x, a)
  return nn.uniform(x[1]:shape(), a.low or 0, a.high or 1):to(dtypes[a.dtype] or x[1]:dtype())
end)
op("Bernoulli", chances, function(x, a, results)
  local n, count = x[1]:numel(), 4000
  local p = list(x[1]:reshape(-1))
  for i, v in ipairs(list(results[1]:reshape(-1))) do
    if v ~= 0 and v ~= 1 then return ("draw %d is %s"):format(i, v) end
  end
  local share = list(chances({ nn.expand(x[1]:reshape(-1), { count, n }) }, a):to("f64"):mean(1))
  for i = 1, n do
    if not likely(share[i], p[i], count) then return ("a share of %g is drawn, expected %g"):format(share[i], p[i]) end
  end
  return ""
end)

-- ---- gradients ------------------------------------------------------------------------------------------------------
op("Gradient", function(_, a, _, env) -- of the tensor named y by those named xs; the caller had them require gradients
  local inputs = {}
  for i, name in ipairs(a.xs) do inputs[i] = env[name] end
  return nn.grad(env[a.y], inputs)
end)

-- ---- sequences: { sequence = list of tensors } -----------------------------------------------------------------------
local function copied(s) return { table.unpack(s.sequence) } end
local function place(t, n) -- counted from 0, or backwards from -1
  local i = t:item()
  return i < 0 and i + n + 1 or i + 1
end
op("SequenceEmpty", function() return { sequence = {} } end)
op("SequenceConstruct", function(x) return { sequence = { table.unpack(x, 1, x.n) } } end)
op("SequenceLength", function(x) return nn.tensor(#x[1].sequence, { dtype = "i64" }) end)
op("SequenceAt", function(x) return x[1].sequence[place(x[2], #x[1].sequence)] end)
op("SequenceInsert", function(x)
  local kept = copied(x[1])
  table.insert(kept, x[3] and place(x[3], #kept) or #kept + 1, x[2])
  return { sequence = kept }
end)
op("SequenceErase", function(x)
  local kept = copied(x[1])
  table.remove(kept, x[2] and place(x[2], #kept) or #kept)
  return { sequence = kept }
end)
op("ConcatFromSequence", function(x, a) return nn[a.new_axis == 1 and "stack" or "cat"](x[1].sequence, dim(a.axis)) end)
op("SplitToSequence", function(x, a)
  local d = dim(a.axis or 0)
  local sizes = x[2] and list(x[2]) or 1
  local pieces = nn.split(x[1], type(sizes) == "table" and x[2]:dim() == 0 and sizes[1] or sizes, d)
  if not x[2] and a.keepdims == 0 then
    for i, t in ipairs(pieces) do pieces[i] = nn.squeeze(t, d) end
  end
  return { sequence = pieces }
end)

-- ---- what is left out -----------------------------------------------------------------------------------------------
-- Rules of optimizers, windows of signals, detection, text and control flow: the catalogue has no operator of that kind.
for name in ([[Adagrad Adam Momentum BlackmanWindow HammingWindow HannWindow DFT STFT MelWeightMatrix If Loop Scan NonMaxSuppression RoiAlign
  OptionalGetElement OptionalHasElement ReverseSequence SequenceMap StringNormalizer TfIdfVectorizer]]):gmatch "%w+" do
  M.outside[name] = true
end

local function exclude(reason, ...)
  for _, name in ipairs { ... } do M.excluded["test_" .. name] = reason end
end
exclude("text is no tensor of ours", "cast_FLOAT_to_STRING", "cast_STRING_to_FLOAT", "castlike_FLOAT_to_STRING", "castlike_STRING_to_FLOAT",
  "castlike_FLOAT_to_STRING_expanded", "castlike_STRING_to_FLOAT_expanded")
-- results written with four digits; graphs that take pi for 3.1415
for name in ([[gridsample_bicubic blackmanwindow_expanded blackmanwindow_symmetric_expanded hammingwindow_expanded hammingwindow_symmetric_expanded
  hannwindow_expanded hannwindow_symmetric_expanded]]):gmatch "[%w_]+" do
  M.rounded["test_" .. name] = true
end

return M
