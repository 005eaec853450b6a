-- Cases of the operator battery for normalization, attention and embedding. The format is that of ops_cases.lua, which calls the function of this
-- file with its helpers and merges what it gives.
return function(M)
  local build, at, numel, T, ids, given = M.build, M.at, M.numel, M.T, M.ids, M.given
  local cases = {}

  -- ---- layer_norm, rms_norm ----
  -- Rows of n elements; f(row) gives the normalized row.
  local function rows(x, shape, weight, bias, f)
    local n, out = shape and numel(shape) or x.shape[#x.shape], { shape = x.shape }
    for base = 0, #x - 1, n do
      local y = f({ table.unpack(x, base + 1, base + n) }, n)
      for i = 1, n do out[base + i] = y[i] * (weight and weight[i] or 1) + (bias and bias[i] or 0) end
    end
    return out
  end
  local function scaled(row, n, eps)
    local squares = 0
    for i = 1, n do squares = squares + row[i] ^ 2 end
    local y = {}
    for i = 1, n do y[i] = row[i] / math.sqrt(squares / n + (eps or 1e-5)) end
    return y
  end
  local function layer_norm(x, shape, weight, bias, eps)
    return rows(x, shape, weight, bias, function(row, n)
      local sum = 0
      for i = 1, n do sum = sum + row[i] end
      for i = 1, n do row[i] = row[i] - sum / n end
      return scaled(row, n, eps)
    end)
  end
  local function rms_norm(x, shape, weight, eps)
    return rows(x, shape, weight, nil, function(row, n) return scaled(row, n, eps) end)
  end
  local function misfits(extra)
    return {
      { T { 2, 3 }, { 4 }, "the input (2x3) does not end in the normalized shape (4)" },
      { T { 2, 3 }, { 1, 2, 3 }, "does not end in the normalized shape (1x2x3)" },
      { T { 2, 3 }, { 3 }, T { 2 }, "the weight needs 3 elements, its shape is (2)" },
      { T {}, "does not end in the normalized shape (the last dim)" }, extra,
    }
  end
  cases.layer_norm = {
    { T { 3, 6 }, { 6 }, T { 6 }, T { 6 }, ref = layer_norm }, { T { 2, 3, 4 }, { 3, 4 }, T { 3, 4 }, T { 12 }, ref = layer_norm },
    { T { 3, 5 }, ref = layer_norm }, { T { 6 }, { 6 }, T { 6 }, ref = layer_norm }, { T { 2, 5 }, nil, nil, T { 5 }, n = 4, ref = layer_norm },
    { T { 2, 5 }, { 5 }, nil, nil, 0.5, n = 5, ref = layer_norm }, { T { 0, 4 }, { 4 }, T { 4 }, T { 4 }, ref = layer_norm },
    { T { 3, 1 }, { 1 }, T { 1 }, T { 1 }, ref = layer_norm }, { T { 40, 130 }, { 130 }, T { 130 }, T { 130 }, ref = layer_norm, nograd = true },
    bad = misfits { T { 2, 3 }, { 3 }, nil, T { 3, 2 }, "the bias needs 3 elements" },
  }
  cases.layer_norm.bad[5] = { T { 2, 3 }, { 3 }, T { 3 }, T { 3, 2 }, "the bias needs 3 elements, its shape is (3x2)" }
  cases.rms_norm = {
    { T { 3, 6 }, { 6 }, T { 6 }, ref = rms_norm }, { T { 2, 3, 4 }, { 3, 4 }, T { 12 }, ref = rms_norm }, { T { 3, 5 }, ref = rms_norm },
    { T { 2, 5 }, { 5 }, nil, 0.5, n = 4, ref = rms_norm }, { T { 0, 4 }, { 4 }, T { 4 }, ref = rms_norm },
    { T({ 3, 1 }, { away = { 0 } }), { 1 }, T { 1 }, 0.1, ref = rms_norm }, { T { 40, 130 }, { 130 }, T { 130 }, ref = rms_norm, nograd = true },
    bad = misfits(),
  }

  -- ---- scaled_dot_product_attention ----
  local function row_softmax(s)
    local big, total = -math.huge, 0
    for _, v in ipairs(s) do big = math.max(big, v) end
    for i, v in ipairs(s) do
      s[i] = math.exp(v - big)
      total = total + s[i]
    end
    for i = 1, #s do s[i] = s[i] / total end
    return s
  end
  local function attention(q, k, v, mask, p, causal, scale)
    local nd, shape = #q.shape, {}
    for d = 1, nd do shape[d] = math.max(q.shape[d], k.shape[d]) end
    shape[nd - 1], shape[nd] = q.shape[nd - 1], v.shape[nd]
    local e, keys = q.shape[nd], k.shape[nd - 1]
    return build(shape, function(idx)
      local function element(a, row, col)
        local i = { table.unpack(idx) }
        i[nd - 1], i[nd] = row, col
        return at(a, i)
      end
      local s = {}
      for j = 1, keys do
        s[j] = 0
        for c = 1, e do s[j] = s[j] + element(q, idx[nd - 1], c) * element(k, j, c) end
        s[j] = s[j] * (scale or 1 / math.sqrt(e))
        local m = mask and element(mask, idx[nd - 1], j)
        if causal and j > idx[nd - 1] or m == false or mask and mask.keep and m == 0 then s[j] = -math.huge end
        if mask and not mask.keep then s[j] = s[j] + m end
      end
      local w, sum = row_softmax(s), 0
      for j = 1, keys do sum = sum + w[j] * element(v, j, idx[nd]) end
      return p == 1 and 0 or sum
    end)
  end
  local function keeping(q, k, v, mask, ...)
    mask.keep = true
    return attention(q, k, v, mask, ...)
  end
  local keep = given({ 3, 4 }, { 1, 0, 1, 0, 1, 1, 1, 1, 0, 0, 0, 1 }, "bool")
  cases.scaled_dot_product_attention = {
    { T { 2, 3, 4 }, T { 2, 5, 4 }, T { 2, 5, 3 }, ref = attention }, { T { 3, 4 }, T { 4, 4 }, T { 4, 2 }, keep, ref = keeping },
    { T { 2, 3, 2 }, T { 2, 4, 2 }, T { 2, 4, 2 }, T { 3, 4 }, ref = attention },
    { T { 4, 3 }, T { 4, 3 }, T { 4, 3 }, nil, 0, true, 0.7, n = 7, ref = attention }, { T { 1, 1 }, T { 1, 1 }, T { 1, 1 }, ref = attention },
    { T { 2, 1, 3, 2 }, T { 1, 2, 4, 2 }, T { 2, 2, 4, 2 }, ref = attention },
    { T { 3, 4 }, T { 4, 4 }, T { 4, 2 }, nil, 1, n = 5, ref = attention, nograd = true },
    { T { 0, 3, 4 }, T { 0, 5, 4 }, T { 0, 5, 3 }, ref = attention },
    bad = {
      { T { 3, 4 }, T { 3, 5 }, T { 3, 4 }, "queries (..., L, E), keys (..., S, E) and values (..., S, V) are needed, got (3x4), (3x5), (3x4)" },
      { T { 3, 4 }, T { 5, 4 }, T { 3, 4 }, "are needed, got (3x4), (5x4), (3x4)" }, { T { 4 }, T { 4 }, T { 4 }, "are needed, got (4), (4), (4)" },
    },
  }

  -- ---- embedding ----
  local function embedding(pos, weight)
    local shape = { table.unpack(pos.shape) }
    shape[#shape + 1] = weight.shape[2]
    return build(shape, function(idx) return at(weight, { at(pos, { table.unpack(idx, 1, #idx - 1) }), idx[#idx] }) end)
  end
  cases.embedding = {
    { ids({ 2, 3 }, 5), T { 5, 3 }, ref = embedding, tol = 0 }, { ids({ 4 }, 1), T { 1, 2 }, ref = embedding, tol = 0 },
    { ids({}, 5), T { 5, 3 }, ref = embedding, tol = 0 }, { ids({ 0, 2 }, 5), T { 5, 3 }, ref = embedding, tol = 0 },
    { ids({ 2, 3 }, 5), T { 5, 3 }, 2, ref = embedding, nograd = true, tol = 0 },
    bad = { { ids({ 2 }, 3), T { 3 }, "the weight must be a matrix (ids, features), it has 1 dims" }, { T { 2 }, T { 3, 2 }, "must hold integers" },
      { ids({ 2 }, 3), T { 3, 2 }, 0, "positions count from 1" }, { ids({ 2 }, 3), T { 3, 2 }, { 1, 2 }, "one padding_id is possible, got 2" } },
  }

  -- ---- split4: the first piece here, all of them in functional_spec.lua ----
  local function first_piece(x, dim, sizes)
    local shape = { table.unpack(x.shape) }
    local d = dim < 0 and dim + #shape + 1 or dim
    shape[d] = sizes[1]
    return build(shape, function(idx)
      local k = 0
      for i, size in ipairs(x.shape) do k = k * size + idx[i] - 1 end
      return x[k + 1]
    end)
  end
  cases.split4 = {
    { T { 9, 2 }, 1, { 3, 1, 4, 1 }, ref = first_piece, tol = 0 }, { T { 2, 6 }, -1, { 2, 2, 2, 0 }, ref = first_piece, tol = 0 },
    { T { 2, 3 }, 2, { 0, 3, 0, 0 }, ref = first_piece, tol = 0 }, { T { 1 }, 1, { 1, 0, 0, 0 }, ref = first_piece, tol = 0 },
    { T { 2, 0 }, 2, { 0, 0, 0, 0 }, ref = first_piece, tol = 0 },
    bad = { { T { 4 }, 1, { 2, 2 }, "four sizes are needed" }, { T { 2, 4 }, 2, { 1, 1, 1, 2 }, "add up to dim 2 of (2x4)" },
      { T { 4 }, 1, { -1, 3, 1, 1 }, "the sizes must be at least 0" },
      { T { 4 }, 1, { math.maxinteger, 5, math.maxinteger, 1 }, "add up to dim 1 of (4)" } },
  }
  return cases
end
