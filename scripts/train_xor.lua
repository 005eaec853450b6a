-- The smallest network that needs a hidden layer, trained by hand: forward, backward, step. The last line printed is its accuracy.
local nn = require "nnlua"

nn.seed(3)
local x = nn.tensor { { 0, 0 }, { 0, 1 }, { 1, 0 }, { 1, 1 } }
local y = nn.tensor({ 1, 2, 2, 1 }, { dtype = "i64" }) -- class ids begin at 1: 1 is "equal", 2 is "different"

local Net = nn.class("Net", nn.Module)
function Net:init(hidden)
  self.hidden, self.out = nn.Linear(2, hidden), nn.Linear(hidden, 2)
end
function Net:forward(input) return self.out(self.hidden(input):tanh()) end

local net = Net(8)
local opt = nn.optim.SGD { net:parameters(), lr = 0.5, momentum = 0.9 }
for step = 1, 200 do
  local loss = nn.losses.cross_entropy(net(x), y)
  opt:zero_grad()
  loss:backward()
  opt:step()
  if step % 50 == 0 then print(("step %d  loss %.4f"):format(step, loss:item())) end
end

local _ <close> = nn.no_grad()
print(net(x):argmax(-1))
print(("accuracy %.2f"):format(nn.metrics.accuracy(net(x), y):item()))
