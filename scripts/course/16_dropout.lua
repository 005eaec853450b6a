-- Lecture 16: dropout, an ensemble of networks.
-- You learn: in training each unit is left out with probability p, and the others are scaled by 1 / (1 - p), so that the sum stays the same on
-- average; at test time all units are on; that is the mean of a large ensemble of smaller networks that share their weights.
local nn = require "nnlua"

nn.seed(1)
local layer, x = nn.Dropout { 0.5 }, nn.ones(1, 10)
print "Ten units that all say 1, p = 0.5. In training, four draws: each is gone with a chance of one half, else doubled:"
for _ = 1, 4 do print("  " .. tostring(layer(x)[1])) end
layer:eval()
print("At test time:\n  " .. tostring(layer(x)[1]))
assert((layer(x) - x):abs():amax():item() == 0)

print "\nThe mean over many draws is the test-time value:"
layer:train()
local sum, draws = nn.zeros(1, 10), 4000
for _ = 1, draws do sum = sum + layer(x) end
print("  " .. tostring((sum / draws)[1]))
assert((sum / draws - 1):abs():amax():item() < 0.08)

print "\nAn ensemble: 64 units with dropout are 2^64 networks with common weights. Train one to say where a point of two moons belongs:"
local function moons(n)
  local t, upper = nn.uniform({ n }, 0, math.pi), nn.bernoulli({ n }, 0.5)
  local px = nn.where(upper, t:cos(), 1 - t:cos()) + nn.normal({ n }, 0, 0.25)
  local py = nn.where(upper, t:sin(), 0.5 - t:sin()) + nn.normal({ n }, 0, 0.25)
  return nn.stack({ px, py }, -1), upper:float():reshape(-1, 1)
end
local train_x, train_y = moons(100)
local test_x, test_y = moons(500)
local model = nn.Sequential { nn.Input { 2 }, nn.Dense { 64, activation = "relu" }, nn.Dropout { 0.5 }, nn.Dense { 1 } }
model:compile { optimizer = nn.optim.Adam { lr = 0.02 }, loss = "binary_crossentropy", from_logits = true }
model:fit { train_x, train_y, epochs = 80, batch_size = 20, verbose = 0 }

local _ <close> = nn.no_grad()
local function loss_of(scores) return nn.losses.binary_crossentropy(scores:sigmoid(), test_y):item() end
local all_on = model:eval()(test_x)
model:train()
local members, mean, single = 300, nn.zeros_like(all_on), 0
for i = 1, members do
  local scores = model(test_x) -- a member: the network without the units that this draw left out
  mean = mean + scores / members
  if i <= 20 then single = single + loss_of(scores) / 20 end
end
local gap = (mean - all_on):abs():mean():item()
print(("  test loss of one member %.4f (mean of 20), of the ensemble of %d %.4f, of the whole network %.4f"):format(
  single, members, loss_of(mean), loss_of(all_on)))
print(("  mean difference of the scores of ensemble and whole network: %.3f; of one member and the whole: %.3f"):format(
  gap, (model(test_x) - all_on):abs():mean():item()))
assert(loss_of(all_on) < single and math.abs(loss_of(mean) - loss_of(all_on)) < 0.01)

local spread = nn.stack({ model(test_x):sigmoid(), model(test_x):sigmoid(), model(test_x):sigmoid() }):std(1)
print(("How far the members disagree says how sure the network is: deviation from %.3f to %.3f over the points."):format(
  spread:amin():item(), spread:amax():item()))
