--- Gradients beyond backward(): of functions, of the user's own making, along directions; and checking them.
--
-- Owns: nn.value_and_grad, nn.custom, nn.hook, nn.jvp, nn.hvp, nn.gradcheck.

local core = require "nnlua.core"
local options = require "nnlua.options"

local autograd = {}

local function need_function(what, fn)
  if type(fn) ~= "function" then options.raise(what .. ": the first argument must be a function, got " .. options.shown(fn)) end
end

local function variables(list)
  local v = {}
  for i, x in ipairs(list) do v[i] = x:detach():requires_grad(true) end
  return v
end

--- A function that gives `fn`'s value and its gradients with respect to each of its arguments.
--
--     local nn = require "nnlua"
--     local f = nn.value_and_grad(function(x) return (x * x):sum() end)
--     local value, dx = f(nn.tensor{1.0, 2.0})
--     print(value:item(), dx[2]:item())  --> 5.0  4.0
---@param fn function tensors -> scalar tensor
---@return function
function autograd.value_and_grad(fn)
  need_function("value_and_grad", fn)
  return function(...)
    local x = variables { ... }
    local value = fn(table.unpack(x))
    return value:detach(), core.grad(value, x)
  end
end

--- A function with a gradient of your own. `forward(...)` computes from tensors (it is not differentiated) and may return, behind its
--- result, anything that `backward` needs; `backward(d, saved...)` returns a gradient (or nil) for each tensor argument.
--
--     local nn = require "nnlua"
--     local clip = nn.custom{ forward = function(x) return x:clamp(-1, 1) end, backward = function(d) return d end }
--     local x = nn.tensor({3.0, 0.5}, { requires_grad = true })
--     clip(x):sum():backward()
--     print(x:grad()[1]:item())  --> 1.0
---@param o table { forward =, backward = }
---@return function
function autograd.custom(o)
  o = options.check("custom", o, { forward = { "function", required = true }, backward = { "function", required = true } })
  return function(...)
    local inputs = { ... }
    local r = table.pack(core.no_grad(function(...) return o.forward(...) end, ...))
    local out = r[1]:detach()
    return (core.record_custom(inputs, { out }, function(d) return o.backward(d, table.unpack(r, 2, r.n)) end))
  end
end

--- `x` with `fn(d)` called on its gradient during backward; what fn returns (unless nil) takes the gradient's place.
function autograd.hook(x, fn)
  if type(fn) ~= "function" then options.raise("hook: the second argument must be a function, got " .. options.shown(fn)) end
  return (core.record_custom({ x }, { x:detach() }, function(d) return fn(d) or d end))
end

--- Derivative of `fn` at `x` (a tensor or a list) along `v` (the same): value and the derivative of the value's size, by differentiating
--- the gradient with respect to its cotangent.
function autograd.jvp(fn, x, v)
  need_function("jvp", fn)
  local xs, vs = type(x) == "table" and x or { x }, type(v) == "table" and v or { v }
  xs = variables(xs)
  local y = fn(table.unpack(xs))
  local u = y:detach():zeros_like():requires_grad(true) -- any cotangent: the gradient is linear in it
  local g = table.pack(core.grad(y, xs, { cotangents = u, create_graph = true }))
  local outputs, cotangents = {}, {}
  for i = 1, #xs do
    if g[i] then outputs[#outputs + 1], cotangents[#cotangents + 1] = g[i], vs[i] end
  end
  if #outputs == 0 then return y:detach(), y:zeros_like() end
  return y:detach(), (core.grad(outputs, u, { cotangents = cotangents }) or y:zeros_like())
end

--- Product of the Hessian of the scalar function `fn` at `x` with `v` (tensors or lists of them): value, then one product per argument.
function autograd.hvp(fn, x, v)
  need_function("hvp", fn)
  local xs, vs = type(x) == "table" and x or { x }, type(v) == "table" and v or { v }
  xs = variables(xs)
  local y = fn(table.unpack(xs))
  local g = table.pack(core.grad(y, xs, { create_graph = true }))
  local outputs, cotangents = {}, {}
  for i = 1, #xs do
    if g[i] and g[i]:requires_grad() then outputs[#outputs + 1], cotangents[#cotangents + 1] = g[i], vs[i] end
  end
  if #outputs == 0 then
    for i, t in ipairs(xs) do g[i] = t:zeros_like() end
    return y:detach(), table.unpack(g, 1, #xs)
  end
  local h = table.pack(core.grad(outputs, xs, { cotangents = cotangents }))
  for i, t in ipairs(xs) do h[i] = h[i] or t:zeros_like() end
  return y:detach(), table.unpack(h, 1, #xs)
end

local check_spec = { eps = { "number" }, atol = { "number" }, rtol = { "number" } }

--- Compare the gradient of `fn(...)` with central differences, under a fixed random cotangent. Returns true, or false and what differs.
--- In f32 the differences are good to about three digits: keep values near 1. With inputs of f64 the check is a thousand times sharper.
function autograd.gradcheck(fn, inputs, given)
  need_function("gradcheck", fn)
  local o = options.check("gradcheck", given or {}, check_spec)
  local xs = variables(type(inputs) == "table" and inputs or { inputs })
  local y = fn(table.unpack(xs))
  local double = y:dtype() == "f64"
  for _, x in ipairs(xs) do double = double and x:dtype() == "f64" end
  local eps, atol, rtol = o.eps or (double and 1e-5 or 1e-2), o.atol or (double and 1e-7 or 2e-3), o.rtol or (double and 1e-6 or 2e-2)
  local _ <close> = core.here(y)
  local r = core.rand(table.unpack(y:shape())) + 0.5
  local g = table.pack(core.grad(y, xs, { cotangents = r }))
  local function value(i, k, delta)
    local args = {}
    for j, x in ipairs(xs) do args[j] = x:detach() end
    local flat = args[i]:reshape(-1)
    flat[k] = flat[k]:item() + delta
    args[i] = flat:reshape(xs[i]:shape())
    return (fn(table.unpack(args)):detach() * r):sum():item()
  end
  for i, x in ipairs(xs) do
    local analytic = g[i] and g[i]:reshape(-1):totable() or {}
    for k = 1, x:numel() do
      local numeric, a = (value(i, k, eps) - value(i, k, -eps)) / (2 * eps), analytic[k] or 0
      local close = math.abs(a - numeric) <= atol + rtol * math.abs(numeric) -- false for NaN
      if not close then
        return false, ("argument %d, element %d: gradient %.6g, differences %.6g"):format(i, k, a, numeric)
      end
    end
  end
  return true
end

return autograd
