-- Lecture 11: cross-entropy, with the weather as the example.
-- You learn: cross-entropy is the mean surprise -log(probability of what happened); which logarithm only changes the unit; the best constant forecast
-- is the share of days; a better forecast has a smaller loss; and with softmax its gradient is simply forecast minus truth.
local nn = require "nnlua"

local days = { "dry", "dry", "rain", "dry", "rain" }
local forecast = { 0.9, 0.8, 0.2, 0.6, 0.4 } -- probability of a dry day

print "day   weather   forecast of dry   probability of what came   surprise -ln p"
local sum, dry = 0, 0
for i, weather in ipairs(days) do
  local p = weather == "dry" and forecast[i] or 1 - forecast[i]
  sum, dry = sum - math.log(p), dry + (weather == "dry" and 1 or 0)
  print(("%3d   %-7s %13.2f %22.2f %21.3f"):format(i, weather, forecast[i], p, -math.log(p)))
end
local by_hand = sum / #days
print(("mean: %.4f, the cross-entropy of this forecast"):format(by_hand))

print "\nThe same with the library: targets as class ids (dry is 1, rain is 2), as one-hot rows, or as yes and no:"
local probabilities = nn.tensor(forecast)
local rows = nn.stack({ probabilities, 1 - probabilities }, -1) -- {5, 2}: dry, rain
local ids = nn.tensor { 1, 1, 2, 1, 2 }
local sparse = nn.losses.sparse_categorical_crossentropy(rows, ids):item()
local one_hot = nn.losses.categorical_crossentropy(rows, nn.one_hot(ids, 2)):item()
local binary = nn.losses.binary_crossentropy(probabilities, ids:eq(1):float()):item()
print(("  sparse_categorical %.4f   categorical %.4f   binary %.4f"):format(sparse, one_hot, binary))
for _, v in ipairs { sparse, one_hot, binary } do assert(math.abs(v - by_hand) < 1e-5) end

print "\nUnits: a forecast of 0.57 for what happened has the surprise"
print(("  -ln 0.57 = %.3f nats (what libraries use)   -log2 0.57 = %.3f bits   -log10 0.57 = %.3f"):format(
  -math.log(0.57), -math.log(0.57, 2), -math.log(0.57, 10)))
assert(math.abs(-math.log(0.57) - 0.562) < 5e-4 and math.abs(-math.log(0.57, 10) - 0.244) < 5e-4)

print(("\nForecasts that say the same every day (%d of %d days are dry):"):format(dry, #days))
local best, least = nil, math.huge
for percent = 10, 90, 10 do
  local q = percent / 100
  local loss = nn.losses.binary_crossentropy(nn.full({ 5 }, q), ids:eq(1):float()):item()
  if loss < least then best, least = percent, loss end
  print(("  %d %%  %.3f  %s"):format(percent, loss, ("#"):rep(math.floor(loss * 30))))
end
print(("The best is %d %%, the share of dry days; the forecast above knows more: %.3f against %.3f."):format(best, by_hand, least))
assert(best == 60 and math.abs(least - (-0.6 * math.log(0.6) - 0.4 * math.log(0.4))) < 1e-5 and by_hand < least)

print "\nFrom scores, cross_entropy does softmax and logarithm in one; its gradient by the scores is (forecast - truth) / days:"
local scores = nn.tensor({ { 2, 0 }, { 1, 0 }, { 0, 1 }, { 0.5, 0 }, { 0, 0.5 } }, { requires_grad = true })
nn.losses.cross_entropy(scores, ids):backward()
print(scores:grad())
assert((scores:grad() - (scores:detach():softmax() - nn.one_hot(ids, 2)) / 5):abs():amax():item() < 1e-6)
