-- lua/nnlua/functional/*: values and gradients as PyTorch computed them (golden/neural.lua), gradients of gradients, arguments, and what has no
-- golden value.
local nn = require "nnlua"
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local support = dofile(here .. "support.lua")
local close, message = support.close, support.message
local golden = dofile(here .. "golden/neural.lua")

local function tensor(t)
  local dtype, shape, values = table.unpack(t)
  if dtype == "bool" then
    return nn.tensor(values, { dtype = "i64" }):bool():reshape(shape)
  end
  return nn.tensor(values, { dtype = dtype }):reshape(shape)
end

-- The call of a case as a function of its inputs (a table by name).
local function callable(case)
  return function(inputs)
    local env = setmetatable({ nn = nn }, { __index = inputs })
    return table.pack(assert(load("return " .. case.call, "=" .. case.name, "t", env))())
  end
end

local function inputs_of(case)
  local inputs, leaves = {}, {}
  for name, t in pairs(case.inputs) do
    inputs[name] = tensor(t)
    if case.grads and case.grads[name] then
      inputs[name] = inputs[name]:requires_grad(true)
      leaves[#leaves + 1] = name
    end
  end
  table.sort(leaves)
  return inputs, leaves
end

-- Sum of outputs under the case's cotangents, without those that are not finite.
local function total(case, outputs)
  local sum
  for i, cotangent in ipairs(case.cotangents) do
    if cotangent then
      local y = outputs[i]
      local term = (y * tensor(cotangent)):sum()
      sum = sum and sum + term or term
    end
  end
  return sum
end

local loose = { ["interpolate"] = 1e-4, ["grid_sample"] = 1e-4 }

describe("golden", function()
  for _, case in ipairs(golden) do
    local tolerance = loose[case.name:match "^[%w_]+"] or 2e-5
    it(case.name, function()
      local inputs, leaves = inputs_of(case)
      local outputs = callable(case)(inputs)
      assert.equal(#case.outputs, outputs.n)
      for i, want in ipairs(case.outputs) do
        assert.same(want[2], outputs[i]:shape())
        if want[1] == "i64" then assert.equal("i64", outputs[i]:dtype()) end
        close(want[3], outputs[i], tolerance, "output " .. i)
      end
      if #leaves == 0 then return end
      local list = {}
      for i, name in ipairs(leaves) do list[i] = inputs[name] end
      local grads = table.pack(nn.grad(total(case, outputs), list))
      for i, name in ipairs(leaves) do
        local want = case.grads[name]
        local got = grads[i] or list[i]:zeros_like()
        assert.same(want[2], got:shape())
        close(want[3], got, 5 * tolerance, "gradient of " .. name)
      end
    end)
  end
end)

-- Gradient of gradient along one random direction v: d/de <grad(x + e v), r> by central differences against <d<grad, r>/dx, v>.
describe("gradient of gradient", function()
  local kinks = { -- the gradient jumps where a step may cross (maxima, limits, |x|): the difference is taken across it
    max_pool = true, adaptive_max = true, max_unpool = true, nearest = true,
    ["gaussian_nll_loss, full"] = true, -- its limit of the variance passes the gradient on, as PyTorch's does
  }
  local function smooth(name)
    for word in pairs(kinks) do
      if name:find(word, 1, true) then return false end
    end
    return true
  end

  local function gradient(case, inputs, leaves, r, create)
    local list = {}
    for i, name in ipairs(leaves) do list[i] = inputs[name] end
    local g = table.pack(nn.grad(total(case, callable(case)(inputs)), list, { create_graph = create }))
    local sum = nn.zeros(1):sum()
    for i = 1, #leaves do
      if g[i] then sum = sum + (g[i] * r[i]):sum() end
    end
    return sum, list
  end

  for _, case in ipairs(golden) do
    if case.grads and smooth(case.name) then
      it(case.name, function()
        nn.seed(3)
        local inputs, leaves = inputs_of(case)
        local r, v = {}, {}
        for i, name in ipairs(leaves) do
          r[i] = nn.rand(table.unpack(inputs[name]:shape())) - 0.5
          v[i] = nn.rand(table.unpack(inputs[name]:shape())) - 0.5
        end
        local sum, list = gradient(case, inputs, leaves, r, true)
        local analytic = 0
        if sum:requires_grad() then
          local second = table.pack(nn.grad(sum, list))
          for i = 1, #leaves do
            if second[i] then analytic = analytic + (second[i] * v[i]):sum():item() end
          end
        end
        local function at(e)
          local moved = setmetatable({}, { __index = inputs })
          for i, name in ipairs(leaves) do moved[name] = (inputs[name]:detach() + v[i] * e):requires_grad(true) end
          return gradient(case, moved, leaves, r, false):item()
        end
        local e = 1e-3
        close({ (at(e) - at(-e)) / (2 * e) }, { analytic }, 3e-2)
      end)
    end
  end
end)
