-- Cases of the operator battery for what is fused for speed: boxes added, statistics per channel, all steps of an LSTM. The format is that of
-- ops_cases.lua, which calls the function of this file with its helpers and merges what it gives.
return function(M)
  local numel, T, slice_set = M.numel, M.T, M.slice_set
  local cases = {}

  -- ---- slice_add: what slice_set writes, added to what was there ----
  cases.slice_add = {
    { T { 5, 4 }, T { 2, 4 }, { 2, 1 }, { 2, 4 }, { 1, 1 } }, { T { 5, 4 }, T { 2 }, { 1, 4 }, { 3, 2 }, { 2, -2 } },
    { T { 5 }, T {}, { 2 }, { 3 }, { 1 } },
    { T { 5 }, T { 0 }, { 1 }, { 0 }, { 1 } },
    bad = { { T { 5 }, T { 3 }, { 1 }, { 2 }, { 1 }, "a value of shape 3 does not fit a box of shape 2" },
      { T { 5 }, T {}, { 6 }, { 1 }, { 1 }, "outside of dim 1" } },
  }
  for _, c in ipairs(cases.slice_add) do
    c.ref = function(a, v, start, size, step)
      local zero = { shape = a.shape }
      for i = 1, #a do zero[i] = 0 end
      local added = slice_set(zero, v, start, size, step)
      local out = { shape = a.shape }
      for i = 1, #a do out[i] = a[i] + added[i] end
      return out
    end
  end

  -- ---- per channel, the last dim ----
  local function channels(x) return x.shape[#x.shape] end
  local function statistics(x)
    local c = channels(x)
    local n, mean, var = numel(x.shape) // c, { shape = { c } }, { shape = { c } }
    for k = 1, c do
      local sum, squares = 0, 0
      for i = k, #x, c do sum = sum + x[i] end
      mean[k] = sum / n
      for i = k, #x, c do squares = squares + (x[i] - mean[k]) ^ 2 end
      var[k] = squares / n
    end
    return mean, var
  end
  local function first(x) return (statistics(x)) end
  local function second(x) return select(2, statistics(x)) end
  cases.moments = {
    { T { 4, 5 }, ref = first }, { T { 2, 3, 4 }, ref = first }, { T { 6, 1 }, ref = first }, { T { 4, 5 }, ref = second, result = 2 },
    { T { 2, 3, 2, 4 }, ref = second, result = 2 }, { T { 300, 20 }, ref = first, nograd = true },
    { T { 300, 20 }, ref = second, result = 2, nograd = true },
    bad = { { 3, "argument 'x' must be a tensor, got number" } },
  }
  local function dots(which)
    return function(a, x, mean)
      local c = channels(a)
      local out = { shape = { c } }
      for k = 1, c do
        out[k] = 0
        for i = k, #a, c do out[k] = out[k] + a[i] * (which == 1 and 1 or x[i] - mean[k]) end
      end
      return out
    end
  end
  cases.column_dots = {
    { T { 4, 5 }, T { 4, 5 }, T { 5 }, ref = dots(1), nograd = true }, { T { 4, 5 }, T { 4, 5 }, T { 5 }, ref = dots(2), result = 2 },
    { T { 2, 3, 4 }, T { 2, 3, 4 }, T { 4 }, ref = dots(2), result = 2 },
    { T { 300, 20 }, T { 300, 20 }, T { 20 }, ref = dots(2), result = 2, nograd = true, tol = 2e-5 }, -- 300 terms that cancel
    bad = { { T { 4, 5 }, 3, T { 5 }, "argument 'x' must be a tensor, got number" } },
  }
  local function normalized(x, weight, bias, eps)
    local c, mean, var = channels(x), statistics(x)
    local out = { shape = x.shape }
    for i = 1, #x do
      local k = (i - 1) % c + 1
      out[i] = (x[i] - mean[k]) / math.sqrt(var[k] + (eps or 1e-5)) * weight[k] + bias[k]
    end
    return out
  end
  cases.batch_norm_train = {
    { T { 6, 3 }, T { 3 }, T { 3 }, 0.5, ref = normalized }, { T { 2, 3, 2, 4 }, T { 4 }, T { 4 }, 0.1, ref = normalized },
    { T { 6, 3 }, T { 3 }, T { 3 }, ref = first, result = 2, nograd = true },
    { T { 6, 3 }, T { 3 }, T { 3 }, ref = second, result = 3, nograd = true },
    { T { 200, 20 }, T { 20 }, T { 20 }, 0.5, ref = normalized, nograd = true },
    bad = { { T { 6, 3 }, T { 2 }, T { 3 }, "batch_norm_train" } },
  }

  -- ---- lstm_sequence: gates input, forget, cell, output ----
  local function sigmoid(v) return 1 / (1 + math.exp(-v)) end
  local function hyperbolic(v) return 2 * sigmoid(2 * v) - 1 end
  local function lstm(which)
    return function(x, w, h, c)
      local batch, steps, units = x.shape[1], x.shape[2], h.shape[2]
      local hs, cs, gates = { shape = { batch, steps, units } }, { shape = { batch, steps, units } }, { shape = { batch, steps, 4 * units } }
      for b = 1, batch do
        local hp, cp = {}, {}
        for u = 1, units do hp[u], cp[u] = h[(b - 1) * units + u], c[(b - 1) * units + u] end
        for t = 1, steps do
          local g, base = {}, ((b - 1) * steps + t - 1)
          for k = 1, 4 * units do
            local sum = x[base * 4 * units + k]
            for u = 1, units do sum = sum + hp[u] * w[(u - 1) * 4 * units + k] end
            g[k] = (k > 2 * units and k <= 3 * units) and hyperbolic(sum) or sigmoid(sum)
            gates[base * 4 * units + k] = g[k]
          end
          for u = 1, units do
            cp[u] = g[units + u] * cp[u] + g[u] * g[2 * units + u]
            hp[u] = g[3 * units + u] * hyperbolic(cp[u])
            hs[base * units + u], cs[base * units + u] = hp[u], cp[u]
          end
        end
      end
      return ({ hs, cs, gates })[which]
    end
  end
  local function call(n, t, h, o)
    o[1], o[2], o[3], o[4] = T { n, t, 4 * h }, T { h, 4 * h }, T { n, h }, T { n, h }
    return o
  end
  cases.lstm_sequence = {
    call(2, 3, 2, { ref = lstm(1) }), call(2, 3, 2, { ref = lstm(2), result = 2 }), call(1, 2, 1, { ref = lstm(3), result = 3, nograd = true }),
    call(3, 4, 20, { ref = lstm(1), nograd = true }), call(2, 3, 17, { ref = lstm(2), result = 2, nograd = true }),
    bad = { { T { 2, 3, 8 }, T { 3, 8 }, T { 2, 2 }, T { 2, 2 }, "lstm_sequence" } },
  }
  return cases
end
