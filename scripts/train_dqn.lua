-- Train a DQN (Mnih et al., 2015, with van Hasselt's double targets) to balance a pole on a cart: `nnlua train_dqn.lua`. The cart pole is
-- that of Barto, Sutton and Anderson (1983) with Gym's figures: push left or right, a reward of 1 per step, over when the pole leans by 12 degrees,
-- the cart is 2.4 m away, or after 500 steps. The last line printed is the mean return of 100 episodes played with the best actions; Gym calls 475
-- solved. With default options, seeds 1 to 5: 500 each, after 1400, 800, 400, 4600 and 1000 rounds, in 2 to 22 s on a busy machine of two cores.
local nn = require "nnlua"

local opt, must = nn.script(arg, {
  about = "Train a deep Q network on CartPole.",
  { "rounds", "integer", default = 6000, min = 1, help = "rounds at most; in each, every cart makes a step and the network is trained" },
  { "carts", "integer", default = 8, min = 1, help = "carts that play at the same time" },
  { "updates", "integer", default = 4, min = 1, help = "training steps per round" },
  { "batch", "integer", default = 64, min = 1, help = "remembered steps per training step" },
  { "memory", "integer", default = 50000, min = 1000, help = "steps that are remembered" },
  { "lr", "number", default = 5e-4, above = 0, help = "learning rate of Adam" },
  { "goal", "number", default = 475, help = "stop when 100 played episodes reach this mean return" },
  { "save", "string", value = "FILE", help = "write the network at the end" },
  { "resume", "string", value = "FILE", help = "begin with the network of a file" },
})

-- States (N, 4): place and speed of the cart, angle and speed of the pole. Actions (N): 1 left, 2 right. Everything stays in tensors.
local GRAVITY, CART, POLE, HALF, FORCE, DT = 9.8, 1, 0.1, 0.5, 10, 0.02
local function fresh(n) return nn.uniform({ n, 4 }, -0.05, 0.05) end
local function push(state, action)
  local x, v, angle, spin = table.unpack(state:unbind(2))
  local sin, cos, total = angle:sin(), angle:cos(), CART + POLE
  local force = (action * 2 - 3) * FORCE
  local shared = (force + spin:square() * sin * (POLE * HALF)) / total
  local turn = (sin * GRAVITY - cos * shared) / ((4 / 3 - cos:square() * (POLE / total)) * HALF)
  local speed = shared - turn * cos * (POLE * HALF / total)
  local after = nn.stack({ x + v * DT, v + speed * DT, angle + spin * DT, spin + turn * DT }, 2)
  return after, after[{ {}, 1 }]:abs():gt(2.4):logical_or(after[{ {}, 3 }]:abs():gt(12 * math.pi / 180))
end

local function network()
  return nn.Sequential {
    nn.Input { 4 }, nn.Normalization { mean = 0, variance = { 1.44, 1, 0.01, 1 } }, -- to numbers around 1: without, it stays at returns of 250
    nn.Dense { 128, activation = "relu" }, nn.Dense { 128, activation = "relu" }, nn.Dense { 2 },
  }
end
local net, target = network(), network() -- the target follows every 50 rounds
if opt.resume then must(net:load_weights(opt.resume)) end
target:set_weights(net:get_weights())
local optimizer = nn.optim.Adam { net:parameters(), lr = opt.lr }

-- Mean return of n episodes with the best actions.
local function play(n)
  local _ <close> = nn.no_grad()
  local state, alive, returns = fresh(n), nn.ones(n), 0
  for step = 1, 500 do
    local over
    state, over = push(state, net(state):argmax(2))
    returns, alive = returns + alive, alive * over:logical_not():float()
    if step % 20 == 0 and alive:sum():item() == 0 then break end
  end
  return returns:mean():item()
end

local slots = opt.memory // opt.carts * opt.carts
local memory = { state = nn.zeros(slots, 4), action = nn.ones({ slots }, "i64"), after = nn.zeros(slots, 4), over = nn.zeros { slots } }

-- One step of every cart: the best action, or with a chance any one; remembered from `slot` on.
local state, age = fresh(opt.carts), nn.zeros { opt.carts }
local function act(slot, chance)
  local _ <close> = nn.no_grad()
  local scope <close> = nn.scope()
  local any = nn.randint(1, 3, { opt.carts })
  local action = nn.where(nn.bernoulli({ opt.carts }, chance):gt(0), any, net(state):argmax(2))
  local after, over = push(state, action)
  local here = nn.arange(slot, slot + opt.carts, 1, "i64")
  memory.state[here], memory.action[here], memory.after[here], memory.over[here] = state, action, after, over:float()
  local again = over:logical_or(age:ge(499))
  state = nn.where(again:unsqueeze(-1), fresh(opt.carts), after)
  age = nn.where(again, 0, age + 1)
  scope:keep(state, age)
end

-- One training step on some of the `filled` remembered ones: an action is worth 1, and 0.99 of what the target says of the best action after it.
local function learn(filled)
  local _ <close> = nn.scope()
  local at = nn.randint(1, filled + 1, { opt.batch })
  local goal = nn.no_grad(function()
    local after = memory.after:index_select(1, at)
    local best = net(after):argmax(2):unsqueeze(-1)
    return target(after):gather(2, best):squeeze(-1) * (1 - memory.over:take(at)) * 0.99 + 1
  end)
  local value = net(memory.state:index_select(1, at)):gather(2, memory.action:take(at):unsqueeze(-1)):squeeze(-1)
  optimizer:zero_grad()
  nn.mse_loss(value, goal):backward()
  optimizer:step()
end

local start = nn.sys.clock()
for round = 1, opt.rounds do
  act((round - 1) * opt.carts % slots + 1, math.max(0.05, 1 - round / 1000))
  if round > 100 then
    for _ = 1, opt.updates do learn(math.min(slots, round * opt.carts)) end
  end
  if round % 50 == 0 then target:set_weights(net:get_weights()) end
  if round % 200 == 0 then
    local mean = play(20)
    print(("round %d  %.1f s  mean return of 20 episodes %.1f"):format(round, nn.sys.clock() - start, mean))
    if mean >= opt.goal and play(100) >= opt.goal then break end
  end
end

if opt.save then must(net:save(opt.save)) end
print(("mean return of 100 episodes %.1f"):format(play(100)))
