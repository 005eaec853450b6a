-- Lecture 10: softmax.
-- You learn: softmax makes probabilities of scores: exp(score) divided by the sum of all of them; only differences of scores count; large scores need
-- care; a temperature makes it sharp or flat; and it belongs behind the last layer, once.
local nn = require "nnlua"

local function percent(p)
  local words = {}
  for i, v in ipairs(p:totable()) do words[i] = ("%5.1f %%"):format(100 * v) end
  return table.concat(words, " ")
end

local scores = nn.tensor { 2.0, 1.0, 0.1, -1.0 }
print "By hand, for the scores 2, 1, 0.1 and -1 of four classes:"
local total, exps = 0, {}
for i, s in ipairs(scores:totable()) do
  exps[i] = math.exp(s)
  total = total + exps[i]
end
for i, e in ipairs(exps) do print(("  exp(%4.1f) = %.3f, divided by %.3f: %.4f"):format(scores[i]:item(), e, total, e / total)) end
local p = scores:softmax()
print("softmax:", p, "sum", p:sum():item())
for i, e in ipairs(exps) do assert(math.abs(p[i]:item() - e / total) < 1e-6) end

print "\nOnly differences count: with 100 added to each score nothing changes."
print("  " .. percent(p) .. "\n  " .. percent((scores + 100):softmax()))
assert(((scores + 100):softmax() - p):abs():amax():item() < 1e-5)

print "\nThe formula as it stands overflows for large scores; softmax subtracts the largest one first."
local large = scores + 1000
local naive = large:exp() / large:exp():sum()
print("  exp(x) / sum(exp(x)):", naive, "\n  softmax:             ", large:softmax())
assert(naive:isnan():any():item() and large:softmax():isfinite():all():item())

print "\nA temperature divides the scores: below 1 the winner takes it all, above 1 all classes become alike."
for _, temperature in ipairs { 0.25, 1, 4, 100 } do print(("  T = %-5g %s"):format(temperature, percent((scores / temperature):softmax()))) end

print "\nThe slope of each probability by each score, p_i (1 - p_i) on the diagonal and -p_i p_j elsewhere:"
local rows = {}
for i = 1, 4 do
  local x = scores:detach():requires_grad(true)
  rows[i] = nn.grad(x:softmax()[i], x)
end
local jacobian = nn.stack(rows)
print(jacobian)
assert((jacobian - (nn.diag(p) - p:outer(p))):abs():amax():item() < 1e-6)

print "\nTwice is wrong: softmax of probabilities is nearly flat."
print("  once   " .. percent((scores * 10):softmax()) .. "\n  twice  " .. percent((scores * 10):softmax():softmax()))
assert((scores * 10):softmax():softmax():amax():item() < 0.5)
local net = nn.Sequential { nn.Input { 4 }, nn.Dense { 4, activation = "softmax" }, nn.Softmax {} }
print("  model:lint(): " .. net:lint()[1].reason)
assert(net:lint()[1].rule == "softmax_twice")
