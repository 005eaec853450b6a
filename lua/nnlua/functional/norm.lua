--- Normalization beside the core's layer_norm and rms_norm: batch, group, instance and local response; channels last.

local core = require "nnlua.core"
local define = require "nnlua.functional.define"
local shapes = require "nnlua.functional.shapes"

local M = {}

local function check_channels(owner, x, list)
  if x:dim() < 2 then define.fail(owner, "the input must be (batch, ..., channels), its shape is (%s)", define.shape_text(x)) end
  local c = x:size(-1)
  for name, t in pairs(list) do
    if t:dim() ~= 1 or t:size(1) ~= c then define.fail(owner, "%s must have %d elements, its shape is (%s)", name, c, define.shape_text(t)) end
  end
end

local function scaled(y, weight, bias)
  if weight then y = y * weight end
  return bias and y + bias or y
end

-- running = running + momentum * (new - running), in place of the handle; not differentiated
local function follow(running, new, momentum) running:assign(running:detach() * (1 - momentum) + new:detach() * momentum) end

--- Each channel (the last dim) with mean 0 and variance 1 over all other dims while training, else by the running statistics. In training these
--- follow the batch: `running = (1 - momentum) * running + momentum * batch`, with the unbiased variance, as in PyTorch.
--
--     local nn = require "nnlua"
--     local x = nn.tensor{ {1, 10}, {3, 30} }
--     local mean, var = nn.zeros(2), nn.ones(2)
--     local y = nn.batch_norm(x, mean, var, { training = true })
--     print(("%.3f %.3f"):format(y[1][1]:item(), mean[2]:item()))  --> -1.000 2.000
define.op(M, "batch_norm(T x, T? running_mean, T? running_var, T? weight, T? bias, B training = false, F momentum = 0.1, F eps = 1e-5)",
  "channels with mean 0 and variance 1 over the batch (training: running statistics follow) or by the running statistics, * weight + bias",
  function(x, running_mean, running_var, weight, bias, training, momentum, eps)
    if x:dim() < 2 then define.fail("batch_norm", "the input must be (batch, ..., channels), its shape is (%s)", define.shape_text(x)) end
    check_channels("batch_norm", x, { running_mean = running_mean, running_var = running_var, weight = weight, bias = bias })
    x = shapes.real(x)
    if not training then
      if not (running_mean and running_var) then define.fail("batch_norm", "running_mean and running_var are needed unless training = true") end
      return scaled((x - running_mean) * core.rsqrt(running_var + eps), weight, bias)
    end
    local c = x:size(-1)
    local n = x:numel() // math.max(c, 1)
    if n < 2 then define.fail("batch_norm", "training needs more than one value per channel, the input is (%s)", define.shape_text(x)) end
    local y, mean, var
    if x:dtype() == "f64" then -- the fused operator has f32 only
      local dims = {}
      for i = 1, x:dim() - 1 do dims[i] = i end
      mean, var = x:mean(dims), x:var(dims, 0)
      y = scaled((x - mean) * core.rsqrt(var + eps), weight, bias)
    else
      y, mean, var = core.batch_norm_train(x, weight or core.ones(c), bias or core.zeros(c), eps)
    end
    if running_mean then follow(running_mean, mean, momentum) end
    if running_var then follow(running_var, var * (n / (n - 1)), momentum) end
    return y
  end)

-- x (N, ..., C) normalized over each sample's group of channels. Means are taken over the plane first, then over the few channels of a group, so
-- that nothing moves.
local function grouped(owner, x, groups, eps)
  local s = x:shape()
  local n, c = s[1], s[#s]
  if #s < 2 then define.fail(owner, "the input must be (batch, ..., channels), its shape is (%s)", define.shape_text(x)) end
  if groups < 1 or c % groups ~= 0 then define.fail(owner, "groups = %d must divide %d channels", groups, c) end
  local function over_group(y) -- mean of y (N, plane, C), the same for all channels of a group, as (N, 1, C)
    y = y:mean(2)
    if groups == c then return y:reshape { n, 1, c } end
    return y:reshape { n, groups, c // groups }:mean(3, true):expand { n, groups, c // groups }:reshape { n, 1, c }
  end
  local plane = 1
  for i = 2, #s - 1 do plane = plane * s[i] end
  local flat = shapes.real(x):reshape { n, plane, c }
  local centred = flat - over_group(flat)
  return (centred * core.rsqrt(over_group(centred:square()) + eps)):reshape(s)
end

--- Each sample's groups of channels with mean 0 and variance 1.
--
--     local nn = require "nnlua"
--     local y = nn.group_norm(nn.arange(0, 8):reshape(1, 2, 4), 2)
--     print(("%.4f"):format(y[1][1][1]:item()))  --> -1.2127
define.op(M, "group_norm(T x, I groups, T? weight, T? bias, F eps = 1e-5)",
  "each sample's groups of channels with mean 0 and variance 1, then * weight + bias", function(x, groups, weight, bias, eps)
    check_channels("group_norm", x, { weight = weight, bias = bias })
    return scaled(grouped("group_norm", x, groups, eps), weight, bias)
  end)

--- Each channel of each sample with mean 0 and variance 1 over its plane; with `use_input_stats = false` by the running statistics.
--
--     local nn = require "nnlua"
--     local y = nn.instance_norm(nn.tensor{ { {1, 5}, {3, 5} } })
--     print(("%.3f %.3f"):format(y[1][1][1]:item(), y[1][1][2]:item()))  --> -1.000 0.000
define.op(M,
  "instance_norm(T x, T? running_mean, T? running_var, T? weight, T? bias, B use_input_stats = true, F momentum = 0.1, F eps = 1e-5)",
  "each channel of each sample with mean 0 and variance 1 over its plane, then * weight + bias",
  function(x, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)
    local owner = "instance_norm"
    check_channels(owner, x, { running_mean = running_mean, running_var = running_var, weight = weight, bias = bias })
    if not use_input_stats then
      if not (running_mean and running_var) then define.fail(owner, "running_mean and running_var are needed when use_input_stats = false") end
      return scaled((x - running_mean) * core.rsqrt(running_var + eps), weight, bias)
    end
    if x:dim() < 3 then define.fail(owner, "the input must be (batch, ..., channels) with a plane, its shape is (%s)", define.shape_text(x)) end
    if running_mean or running_var then
      local flat = x:detach():reshape { x:size(1), -1, x:size(-1) }
      if running_mean then follow(running_mean, flat:mean { 1, 2 }, momentum) end
      if running_var then follow(running_var, flat:var(2, 1):mean(1), momentum) end
    end
    return scaled(grouped(owner, x, x:size(-1), eps), weight, bias)
  end)

--- x / (k + alpha * mean of squares of the `size` channels around)^beta.
--
--     local nn = require "nnlua"
--     local y = nn.local_response_norm(nn.ones(1, 3, 3), 3, { alpha = 3, beta = 1 })
--     print(("%.2f %.2f"):format(y[1][1][1]:item(), y[1][1][2]:item()))  --> 0.33 0.25
define.op(M, "local_response_norm(T x, I size, F alpha = 1e-4, F beta = 0.75, F k = 1)",
  "x / (k + alpha * mean of squares of `size` neighbouring channels, zeros beyond)^beta", function(x, size, alpha, beta, k)
    if size < 1 or x:dim() < 2 then define.fail("local_response_norm", "size must be at least 1 and the input (batch, ..., channels)") end
    local c, dim = x:size(-1), x:dim()
    local before, behind = math.min(size // 2, c), math.min((size - 1) // 2, c) -- what lies farther away meets zeros only
    local squares = shapes.pad(shapes.real(x):square(), dim, before, behind, 0)
    local sum = shapes.cut(squares, dim, 1, c)
    for i = 2, before + behind + 1 do sum = sum + shapes.cut(squares, dim, i, c) end
    return x / (sum * (alpha / size) + k) ^ beta
  end)

--- x with every row of `dim` divided by its p-norm (at least eps).
--
--     local nn = require "nnlua"
--     print(("%.1f"):format(nn.normalize(nn.tensor{ {3, 4} })[1][2]:item()))  --> 0.8
define.op(M, "normalize(T x, F p = 2, D dim = -1, F eps = 1e-12)", "x divided by its p-norm along dim, which counts as eps at least",
  function(x, p, dim, eps)
  local norm
  if p == 2 then norm = core.sqrt(x:square():sum(dim, true))
  elseif p == 1 then norm = x:abs():sum(dim, true)
  elseif p == math.huge then norm = x:abs():amax(dim, true)
  else norm = (x:abs() ^ p):sum(dim, true) ^ (1 / p) end
  return x / norm:clamp(eps, math.huge)
end)

--- Sums, means or maxima of the embeddings of bags of ids: ids (N, T), or ids (n) with `offsets`, the position (from 1) where each bag begins.
--
--     local nn = require "nnlua"
--     local weight = nn.tensor{ {1, 1}, {2, 2}, {3, 3} }
--     local y = nn.embedding_bag(nn.tensor({ 1, 3, 2 }, { dtype = "i64" }), weight, nn.tensor({ 1, 3 }, { dtype = "i64" }), { mode = "sum" })
--     print(y[1][1]:item(), y[2][1]:item())  --> 4.0 2.0
define.op(M, "embedding_bag(T ids, T weight, T? offsets, S(sum|mean|max) mode = mean, T? per_sample_weights, I? padding_id)",
  "sum, mean or maximum of the rows of weight that each bag of ids names; ids of padding_id are left out",
  function(ids, weight, offsets, mode, sample_weights, padding_id)
    local owner = "embedding_bag"
    if sample_weights and mode ~= "sum" then define.fail(owner, "per_sample_weights are possible with mode = \"sum\" only") end
    if sample_weights and define.shape_text(sample_weights) ~= define.shape_text(ids) then
      define.fail(owner, "per_sample_weights (%s) must have the shape of ids (%s)", define.shape_text(sample_weights), define.shape_text(ids))
    end
    if ids:dim() == 1 and not offsets then define.fail(owner, "ids of one dim need offsets, where each bag begins") end
    if ids:dim() == 2 and offsets or ids:dim() > 2 then define.fail(owner, "ids must be (bags, ids), or (ids) with offsets") end
    local rows = core.embedding(ids, weight, padding_id)
    if sample_weights then rows = rows * sample_weights:unsqueeze(-1) end
    local used = padding_id and ids:ne(padding_id):float():unsqueeze(-1)
    if ids:dim() == 1 then -- which bag (from 1) each id is in
      local starts, n, bag = offsets:totable(), ids:size(1), {}
      if starts[1] ~= 1 and (n > 0 or #starts > 0) then define.fail(owner, "the first bag must begin at 1") end
      local at = 0
      for i = 1, n do
        while starts[at + 1] and starts[at + 1] <= i do at = at + 1 end
        bag[i] = at
      end
      if mode ~= "max" then
        local bags = core.tensor(bag, { dtype = "i64" })
        if n == 0 then return core.full({ #starts, weight:size(2) }, 0) end
        local sum = core.add_rows(used and rows * used or rows, bags, #starts)
        if mode == "sum" then return sum end
        return sum / core.add_rows(used or core.full({ n, 1 }, 1), bags, #starts):clamp(1, math.huge)
      end
      local list = {}
      for b = 1, #starts do
        local first, last = starts[b], (starts[b + 1] or n + 1) - 1
        local keep = {}
        for i = first, last do
          if not padding_id or ids[i]:item() ~= padding_id then keep[#keep + 1] = i end
        end
        list[b] = #keep > 0 and shapes.select(rows, 1, keep):amax(1) or core.full({ weight:size(2) }, 0)
      end
      return core.stack(list, 1)
    end
    if mode == "max" then
      if not used then return rows:amax(2) end
      local largest = core.where(used:bool(), rows, -math.huge):amax(2)
      return core.where(used:amax(2):bool(), largest, 0)
    end
    local sum = (used and rows * used or rows):sum(2)
    if mode == "sum" then return sum end
    return used and sum / used:sum(2):clamp(1, math.huge) or sum * (1 / math.max(ids:size(2), 1))
  end)

return M
