-- Cases of the operator battery for looking up and storing by position, scans, sorting and shapes. The format is that of ops_cases.lua, which calls
-- the function of this file with its helpers and merges what it gives.
return function(M)
  local build, at, numel, along, reduce, T, ids, given = M.build, M.at, M.numel, M.along, M.reduce, M.T, M.ids, M.given
  local cases, unpack, huge = {}, table.unpack, math.huge
  local NAN = 0 / 0

  local function copy(t) return { unpack(t) } end
  local function dim_of(d, n) return d < 0 and d + n + 1 or d end
  local function isnan(x) return x ~= x end
  local function mask(shape) return T(shape, { dtype = "bool", lo = 0, hi = 1 }) end
  local function whole(shape, lo, hi) return T(shape, { dtype = "i64", lo = lo or -3, hi = hi or 3 }) end
  local function apart(shape) return T(shape, { apart = 0 }) end
  local function truth(x) return x == true or (x ~= false and x ~= 0) end
  local function flat_of(shape, idx)
    local k = 0
    for d, s in ipairs(shape) do k = k * s + idx[d] - 1 end
    return k + 1
  end
  local function like(a)
    local out = copy(a)
    out.shape = a.shape
    return out
  end
  local function value_at(v, idx)
    if type(v) == "table" then return at(v, idx) end
    return v
  end
  local function list(a) return type(a) == "table" and a or { a } end

  -- ---- tuples of positions ----
  -- the shape of what ids name in dims, and which index of x each element of it is
  local function spots(x, where, dims)
    local nd, on, dd, rest, near = #x.shape, {}, {}, {}, true
    for i, d in ipairs(list(dims)) do
      dd[i] = dim_of(d, nd)
      on[dd[i]] = true
      near = near and (i == 1 or dd[i] == dd[i - 1] + 1)
    end
    for d = 1, nd do
      if not on[d] then rest[#rest + 1] = d end
    end
    local lead, nb, shape = near and dd[1] - 1 or 0, #where.shape - 1, {}
    for k = 1, lead do shape[k] = x.shape[rest[k]] end
    for k = 1, nb do shape[lead + k] = where.shape[k] end
    for k = lead + 1, #rest do shape[nb + k] = x.shape[rest[k]] end
    return shape, function(idx)
      local xi, t = {}, {}
      for k = 1, nb do t[k] = idx[lead + k] end
      for i, d in ipairs(dd) do
        t[nb + 1] = i
        xi[d] = at(where, t)
      end
      for k, d in ipairs(rest) do xi[d] = idx[k <= lead and k or k + nb] end
      return xi
    end
  end
  local function lookup(x, where, dims)
    local shape, f = spots(x, where, dims)
    return build(shape, function(idx) return at(x, f(idx)) end)
  end
  local function store(x, where, dims, v, accumulate)
    local shape, f = spots(x, where, dims)
    local out = like(x)
    build(shape, function(idx)
      local k = flat_of(x.shape, f(idx))
      out[k] = (accumulate and out[k] or 0) + value_at(v, idx)
    end)
    return out
  end
  local function first_dims(where)
    local dims = {}
    for k = 1, where.shape[#where.shape] do dims[k] = k end
    return dims
  end
  local function column(where)
    local out = copy(where)
    out.shape = copy(where.shape)
    out.shape[#out.shape + 1] = 1
    return out
  end
  local pairs2 = given({ 4, 2 }, { 1, 2, 3, 4, 3, 1, 1, 1 }, "i64")
  local turned_ids = given({ 3, 2 }, { 3, 4, 1, 2, 2, 1 }, "i64")
  local twice = given({ 3, 2 }, { 1, 2, 3, 4, 1, 2 }, "i64")
  local grid = given({ 2, 2, 2 }, { 1, 2, 2, 1, 2, 3, 1, 1 }, "i64")

  cases.index = {
    { T { 4, 5 }, ids({ 3, 1 }, 4), 1, ref = lookup }, { T { 4, 5 }, ids({ 2, 3, 1 }, 5), 2, ref = lookup }, { T { 3, 4 }, pairs2, { 1, 2 },
      ref = lookup },
    { T { 3, 2, 4 }, pairs2, { 1, 3 }, ref = lookup }, { T { 2, 3, 4 }, pairs2, { 2, 3 }, ref = lookup }, { T { 4, 3 }, turned_ids, { 2, 1 },
      ref = lookup }, { T { 2, 3 }, grid, { 1, -1 }, ref = lookup }, { whole { 4, 2 }, ids({ 3, 1 }, 4), 1, ref = lookup, dtype = "i64" },
    { T { 4, 2 }, given({ 0, 1 }, {}, "i64"), 1, ref = lookup },
    bad = {
      { T { 3, 4 }, given({ 1, 2 }, { 1, 5 }, "i64"), { 1, 2 }, "position 5 (element 1 of the positions) is not in 1..4 of dim 2" },
      { T { 3, 4 }, given({ 1, 2 }, { 0, 4 }, "i64"), { 1, 2 }, "position 0 (element 1 of the positions) is not in 1..3 of dim 1" },
      { T { 3, 4 }, given({ 2 }, { 1, 1 }, "i64"), 1, "the last dim must be the number of dims they name, 1" }, { T { 3, 4 }, pairs2, { 1, 1 },
        "dim 1 is named twice" },
      { T { 3, 4 }, T { 2, 2 }, { 1, 2 }, "must hold integers" }, { T { 3, 4 }, pairs2, { 1, 3 }, "dim 3 is out of range" },
    },
  }
  cases.index_set = {
    { T { 3, 4 }, pairs2, { 1, 2 }, T { 4 }, ref = store }, { T { 3, 2, 4 }, pairs2, { 1, 3 }, T { 4, 2 }, true, ref = store }, { T { 2, 4 },
      given({ 2, 1 }, { 4, 1 }, "i64"), 2, T { 2, 2 }, ref = store },
    { T { 3, 4 }, twice, { 1, 2 }, T { 3 }, ref = store }, { T { 3, 4 }, twice, { 1, 2 }, T {}, true, ref = store }, { T { 3, 4 }, pairs2, { 1, 2 },
      7, ref = store },
    { whole { 3, 4 }, pairs2, { 1, 2 }, whole { 4 }, true, ref = store, dtype = "i64" }, { T { 3, 4 }, given({ 0, 2 }, {}, "i64"), { 1, 2 },
      T { 0 }, ref = store },
    bad = {
      { T { 3, 4 }, pairs2, { 1, 2 }, T { 3 }, "values of shape 3 do not fit the 4 elements that the positions name" },
      { T { 3, 4 }, given({ 1, 2 }, { 4, 1 }, "i64"), { 1, 2 }, 0, "position 4 (element 1 of the positions) is not in 1..3 of dim 1" },
        { T { 3, 4 }, pairs2, 1, 0, "number of dims they name" },
    },
  }
  cases.gather_nd = {
    { T { 3, 4 }, pairs2, ref = function(x, w) return lookup(x, w, first_dims(w)) end }, { T { 3, 4, 2 },
      pairs2, ref = function(x, w) return lookup(x, w, first_dims(w)) end },
    { T { 3, 4 }, ids({ 2, 2, 1 }, 3), ref = function(x, w) return lookup(x, w, first_dims(w)) end },
    bad = { { T { 3 }, pairs2, "holds one position for each of 1..1 dims" }, { T { 3, 3 },
      pairs2, "position 4 (element 2 of the positions) is not in 1..3 of dim 2" }, { T { 3 }, T { 1 }, "must hold integers" } },
  }
  local function batch_lookup(x, w, b) -- the batch's own positions in front of each tuple
    local shape, nw = {}, #w.shape
    for d = 1, nw - 1 do shape[d] = w.shape[d] end
    for d = b + w.shape[nw] + 1, #x.shape do shape[#shape + 1] = x.shape[d] end
    return build(shape, function(idx)
      local xi, where = { unpack(idx, 1, b) }, { unpack(idx, 1, nw - 1) }
      for k = 1, w.shape[nw] do
        where[nw] = k
        xi[#xi + 1] = at(w, where)
      end
      for d = nw, #idx do xi[#xi + 1] = idx[d] end
      return at(x, xi)
    end)
  end
  for _, c in ipairs {
    { T { 3, 4 }, ids({ 3, 1 }, 4), 1 }, { T { 2, 3, 4 }, ids({ 2, 5, 1 }, 3), 1 }, { T { 2, 3, 4, 2 }, ids({ 2, 3, 2, 1 }, 4), 2 },
    { T { 2, 3, 4 }, given({ 2, 2, 2 }, { 1, 4, 3, 1, 2, 2, 2, 2 }, "i64"), 1 }, { T { 2, 0, 3 }, given({ 2, 0, 1 }, {}, "i64"), 2 },
  } do
    c.ref = batch_lookup
    table.insert(cases.gather_nd, c)
  end
  for _, c in ipairs {
    { T { 3, 4 }, ids({ 2, 1 }, 4), 1, "3x4 and positions of shape 2x1 do not share 1 leading batch dims" },
    { T { 3, 4 }, ids({ 3, 1 }, 4), 2, "do not share 2 leading batch dims" },
    { T { 3, 4 }, ids({ 3, 1 }, 4), -1, "do not share -1 leading" },
    { T { 2, 3 }, given({ 2, 1 }, { 1, 4 }, "i64"), 1, "position 4 (element 2 of the positions) is not in 1..3 of dim 2" },
    { T { 2, 3 }, ids({ 2, 2 }, 2), 1, "holds one position for each of 1..2 dims" },
  } do
    table.insert(cases.gather_nd.bad, c)
  end
  local function store_nd(x, w, v, add) return store(x, w, first_dims(w), v, add) end
  cases.scatter_nd = {
    { T { 3, 4 }, pairs2, T { 4 }, ref = store_nd }, { T { 3, 4, 2 }, pairs2, T { 4, 2 }, true, ref = store_nd }, { T { 3, 4, 2 }, twice, T { 2 },
      ref = store_nd }, { T { 3, 4 }, twice, 1.5, true, ref = store_nd },
    bad = { { T { 3, 4 }, pairs2, T { 5 }, "values of shape 5 do not fit" }, { T { 2, 4 },
      pairs2, 1, "position 3 (element 2 of the positions) is not in 1..2 of dim 1" } },
  }
  local function take(x, where)
    return build(where.shape, function(idx) return x[at(where, idx)] end)
  end
  cases.take = {
    { T { 3, 4 }, ids({ 5 }, 12), ref = take }, { T { 3, 4 }, ids({ 2, 3 }, 12), ref = take }, { T { 1 }, ids({}, 1), ref = take }, { T { 3 },
      given({ 0 }, {}, "i64"), ref = take },
    bad = { { T { 3, 4 }, given({ 1 }, { 13 }, "i64"), "position 13 (element 1 of the positions) is not in 1..12" }, { T { 3 }, mask { 3 },
      "must hold integers" } },
  }
  local function index_add(x, dim, where, v) return store(x, column(where), dim, v, true) end
  cases.index_add = {
    { T { 4, 3 }, 1, ids({ 5 }, 4), T { 5, 3 }, ref = index_add }, { T { 2, 4, 3 }, 2, ids({ 3 }, 4), T { 2, 3, 3 }, ref = index_add }, { T { 4 },
      -1, ids({ 6 }, 4), T { 6 }, ref = index_add },
    { whole { 4, 2 }, 1, ids({ 5 }, 4), whole { 5, 2 }, ref = index_add, dtype = "i64" }, { T { 3, 70 }, 1, ids({ 40 }, 3), T { 40, 70 },
      ref = index_add, nograd = true },
    bad = {
      { T { 4, 3 }, 1, given({ 1 }, { 5 }, "i64"), T { 1, 3 }, "position 5 (element 1 of the positions) is not in 1..4 of dim 1" }, { T { 4, 3 },
        1, ids({ 2 }, 4), T { 3, 3 }, "do not fit" },
      { T { 4, 3 }, 1, ids({ 2, 2 }, 4), T { 2, 3 }, "positions must have 1 dim, got 2" },
    },
  }

  -- ---- one position per element ----
  local function moved(x, dim, where, idx)
    local xi = copy(idx)
    xi[dim_of(dim, #x.shape)] = at(where, idx)
    return xi
  end
  local function gather(x, dim, where)
    return build(where.shape, function(idx) return at(x, moved(x, dim, where, idx)) end)
  end
  local function scatter_with(f)
    return function(x, dim, where, v)
      local out = like(x)
      build(where.shape, function(idx)
        local k = flat_of(x.shape, moved(x, dim, where, idx))
        out[k] = f(out[k], value_at(v, idx))
      end)
      return out
    end
  end
  local scatter, scatter_add = scatter_with(function(_, v) return v end), scatter_with(function(x, v) return x + v end)
  local no_fit = { T { 3, 4 }, 2, ids({ 4, 2 }, 3), 0, "positions of shape 4x2 do not fit 3x4" }
  cases.gather = {
    { T { 3, 4 }, 2, ids({ 3, 6 }, 4), ref = gather }, { T { 3, 4 }, 1, ids({ 2, 4 }, 3), ref = gather }, { T { 2, 3, 4 }, 2, ids({ 1, 5, 2 },
      3), ref = gather }, { T { 5 }, -1, ids({ 3 }, 5), ref = gather },
    { T { 3, 4 }, 1, given({ 0, 4 }, {}, "i64"), ref = gather }, { whole { 3, 4 }, 2, ids({ 3, 2 }, 4), ref = gather, dtype = "i64" },
      { mask { 3, 4 }, 2, ids({ 3, 2 }, 4), ref = gather, dtype = "bool" },
    bad = {
      { T { 3, 4 }, 2, given({ 1, 2 }, { 1, 5 }, "i64"), "position 5 (element 2 of the positions) is not in 1..4 of dim 2" }, { T { 3, 4 },
        2, ids({ 4, 2 }, 3), "positions of shape 4x2 do not fit 3x4" },
      { T { 3, 4 }, 1, ids({ 4 }, 3), "positions of shape 4 do not fit 3x4" }, { T { 3, 4 }, 1, given({ 1, 1 }, { -1 }, "i64"), "position -1 " },
    },
  }
  cases.scatter = {
    { T { 3, 4 }, 2, ids({ 3, 6 }, 4), T { 3, 6 }, ref = scatter }, { T { 3, 4 }, 1, ids({ 2, 3 }, 3), T { 2, 3 }, ref = scatter }, { T { 2, 3, 4 },
      2, ids({ 2, 2, 4 }, 3), T { 4 }, ref = scatter },
    { T { 5 }, 1, ids({ 2 }, 5), 9, ref = scatter }, { whole { 3, 4 }, 2, ids({ 3, 2 }, 4), whole { 3, 2 }, ref = scatter, dtype = "i64" },
    bad = { { T { 3, 4 }, 2, given({ 1, 1 }, { 7 }, "i64"), 0, "position 7 (element 1 of the positions) is not in 1..4 of dim 2" },
      no_fit, { T { 3, 4 }, 2, ids({ 3, 2 }, 3), T { 3, 3 }, "values of shape 3x3 do not fit" } },
  }
  cases.scatter_add = {
    { T { 3, 4 }, 2, ids({ 3, 6 }, 4), T { 3, 6 }, ref = scatter_add }, { T { 3, 4 }, 1, ids({ 5, 3 }, 3), T { 5, 3 }, ref = scatter_add },
      { T { 2, 3, 4 }, -2, ids({ 2, 2, 4 }, 3), T { 4 }, ref = scatter_add },
    { T { 5 }, 1, ids({ 9 }, 5), 0.5, ref = scatter_add }, { whole { 3, 4 }, 2, ids({ 3, 6 }, 4), whole { 3, 6 }, ref = scatter_add, dtype = "i64" },
    bad = { { T { 3, 4 }, 2, given({ 1, 1 }, { 0 }, "i64"), 0, "position 0 (element 1 of the positions) is not in 1..4 of dim 2" }, no_fit },
  }
  local product, lower, upper = scatter_with(function(x, v) return x * v end), scatter_with(math.min), scatter_with(math.max)
  -- several of one element, zeros among them: (ids, values) for x (2, 3) and dim 2
  local many = { given({ 2, 4 }, { 1, 3, 1, 1, 2, 2, 2, 3 }, "i64"),
    T({ 2, 4 }, { values = { 0, 2, 0, 3, 1.5, 0, 0.5, -2 }, leaf = true }) }
  local none = { T { 3, 2 }, 1, given({ 0, 2 }, {}, "i64"), T { 0, 2 } }
  for name, f in pairs { scatter_prod = product, scatter_amin = lower, scatter_amax = upper } do
    local one, other = f ~= product and { apart = 0 } or nil, f ~= product and { apart = 2 } or nil -- x and src never meet
    cases[name] = {
      { T({ 3, 4 }, one), 2, ids({ 3, 6 }, 4), T({ 3, 6 }, other), ref = f },
      { T({ 2, 3, 4 }, one), -2, ids({ 2, 2, 4 }, 3), T({ 4 }, other), ref = f },
      { T { 5 }, 1, ids({ 9 }, 5), 0.5, ref = f, nograd = f ~= product }, { T { 3, 3 }, 1, ids({ 1, 2 }, 3), T { 1, 2 }, ref = f },
      { whole { 3, 4 }, 2, ids({ 3, 6 }, 4), whole { 3, 6 }, ref = f, dtype = "i64" }, { none[1], none[2], none[3], none[4], ref = f },
      bad = { { T { 3, 4 }, 2, given({ 1, 1 }, { 0 }, "i64"), 0, "position 0 (element 1 of the positions) is not in 1..4 of dim 2" }, no_fit },
    }
  end
  table.insert(cases.scatter_prod, { T { 2, 3 }, 2, many[1], many[2], ref = product, layouts = false })
  table.insert(cases.scatter_prod, { T({ 2, 3 }, { values = { 0, 1, 2, 3, 0, 4 }, leaf = true }), 2, many[1], T { 2, 4 }, ref = product,
    layouts = false })
  local function combined(x, dim, where, v, word, self)
    local f = ({ sum = scatter_add, mean = scatter_add, prod = product, amin = lower, amax = upper })[word]
    local start = ({ sum = 0, mean = 0, prod = 1, amin = huge, amax = -huge })[word]
    local count = build(x.shape, function() return 1 end)
    if self == false then x, count = scatter(x, dim, where, start), scatter(count, dim, where, 0) end
    local y = f(x, dim, where, v)
    if word ~= "mean" then return y end
    count = scatter_add(count, dim, where, 1)
    for i, n in ipairs(count) do y[i] = y[i] / n end
    return y
  end
  local function times(x, v) return x * v end
  local shared_ids = given({ 3, 2 }, { 1, 2, 1, 2, 2, 2 }, "i64")
  local function scatter_nd_with(f)
    return function(x, w, v)
      local shape, spot = spots(x, w, first_dims(w))
      local out = like(x)
      build(shape, function(idx)
        local k = flat_of(x.shape, spot(idx))
        out[k] = f(out[k], value_at(v, idx))
      end)
      return out
    end
  end
  cases.scatter_nd_reduce = {
    { T { 3, 4 }, pairs2, T { 4 }, "sum", ref = scatter_nd_with(function(x, v) return x + v end) }, { T { 2, 2, 3 }, shared_ids, T { 3, 3 }, "prod",
      ref = scatter_nd_with(times) }, { T { 2, 3 }, given({ 3, 1 }, { 1, 2, 1 }, "i64"), T { 3, 3 }, "amax", ref = scatter_nd_with(math.max) },
    { T { 2, 2, 3 }, shared_ids, T { 3 }, "amin", ref = scatter_nd_with(math.min) }, { whole { 3, 4 }, twice, 2, "prod",
      ref = scatter_nd_with(times), dtype = "i64" }, { T { 2, 3 }, given({ 0, 1 }, {}, "i64"), T { 0, 3 }, "prod", ref = scatter_nd_with(times) },
    { T { 2, 2, 3 }, shared_ids, T { 3, 3 }, "mean", false, ref = function(x, w, v) -- only what is stored
      local zero, one = build(x.shape, function() return 0 end), build(x.shape, function() return 1 end)
      local add = scatter_nd_with(function(a, b) return a + b end)
      local sum, count, out = add(zero, w, v), add(zero, w, one[1]), like(x)
      for i, n in ipairs(count) do out[i] = n > 0 and sum[i] / n or x[i] end
      return out
    end },
    bad = { { T { 3, 4 }, pairs2, T { 5 }, "prod", "values of shape 5 do not fit the 4 elements that the positions name" },
      { T { 2, 4 }, pairs2, 1, "prod", "position 3 (element 2 of the positions) is not in 1..2 of dim 1" },
      { T { 3, 4 }, pairs2, 1, "max", 'reduce = "max"; there are sum, mean, prod, amin, amax' },
      { T { 3 }, pairs2, 1, "prod", "holds one position for each of 1..1 dims" } },
  }
  cases.scatter_reduce = {
    bad = { { T { 3 }, 1, ids({ 1 }, 3), 0, "max", 'reduce = "max"; there are sum, mean, prod, amin, amax' },
      { T { 3 }, 1, given({ 1 }, { 4 }, "i64"), 0, "sum", "position 4 " } },
  }
  for _, word in ipairs { "sum", "mean", "prod", "amin", "amax" } do
    for _, self in ipairs { true, false } do
      table.insert(cases.scatter_reduce, { T({ 3, 4 }, { apart = 0 }), 2, ids({ 3, 6 }, 4), T({ 3, 6 }, { apart = 2 }), word, self, ref = combined })
    end
    table.insert(cases.scatter_reduce, { T { 3, 2 }, 1, ids({ 2, 2 }, 3), 0.5, word, ref = combined, nograd = true })
    if word ~= "mean" then
      table.insert(cases.scatter_reduce, { whole { 3, 4 }, 1, ids({ 5, 4 }, 3), whole { 5, 4 }, word, false, ref = combined, dtype = "i64" })
    end
  end
  table.insert(cases.scatter_reduce, { whole { 3, 4 }, 1, ids({ 5, 4 }, 3), whole { 5, 4 }, "mean", dtype = "i64",
    ref = function(...)
      local y = combined(...)
      for i, v in ipairs(y) do y[i] = v // 1 end
      return y
    end })

  -- ---- masks and counting ----
  local function joint(a, b)
    local shape = {}
    for d = 1, math.max(#a, #b) do
      local x, y = a[#a - d + 1] or 1, b[#b - d + 1] or 1
      table.insert(shape, 1, x == 1 and y or x)
    end
    return shape
  end
  local function masked_select(x, m)
    local out = { shape = {} }
    build(joint(x.shape, m.shape), function(idx)
      if truth(at(m, idx)) then out[#out + 1] = at(x, idx) end
    end)
    out.shape[1] = #out
    return out
  end
  cases.masked_select = {
    { T { 3, 4 }, mask { 3, 4 }, ref = masked_select }, { T { 3, 4 }, mask { 3, 1 }, ref = masked_select }, { T { 4 }, mask { 2, 4 },
      ref = masked_select }, { T { 0 }, mask { 0 }, ref = masked_select },
    { T { 3 }, given({ 3 }, { 0, 0, 0 }, "bool"), ref = masked_select }, { T {}, given({}, { 1 }, "bool"), ref = masked_select }, { whole { 3, 4 },
      mask { 4 }, ref = masked_select, dtype = "i64" },
    bad = { { T { 3 }, T { 3 }, "the mask must be bool, got f32" }, { T { 3 }, mask { 4 }, "the mask's shape 4 does not fit 3" } },
  }
  local function masked_fill(x, m, v)
    return build(joint(x.shape, m.shape), function(idx) return truth(at(m, idx)) and value_at(v, idx) or at(x, idx) end)
  end
  cases.masked_fill = {
    { T { 3, 4 }, mask { 3, 4 }, 9, ref = masked_fill }, { T { 3, 4 }, mask { 4 }, T {}, ref = masked_fill }, { T { 4 }, mask { 3, 1 },
      -huge, ref = masked_fill, nograd = true },
    { whole { 4 }, mask { 4 }, 7, ref = masked_fill, dtype = "i64" }, { T { 0 }, mask { 0 }, 1, ref = masked_fill },
    bad = { { T { 3 }, T { 3 }, 0, "the mask must be bool, got f32" }, { T { 3 }, mask { 4 }, 0, "do not broadcast" } },
  }
  local function nonzero(x)
    local shape, out = #x.shape > 0 and x.shape or { 1 }, { shape = {} }
    build(shape, function(idx)
      if truth(at(x, idx)) then
        for d = 1, #shape do out[#out + 1] = idx[d] end
      end
    end)
    out.shape = { #out // #shape, #shape }
    return out
  end
  cases.nonzero = {
    { mask { 3, 4 }, ref = nonzero, dtype = "i64", tol = 0 }, { whole { 2, 3, 4 }, ref = nonzero, dtype = "i64", tol = 0 }, { T { 5 },
      ref = nonzero, dtype = "i64", tol = 0 }, { T { 0, 2 }, ref = nonzero, dtype = "i64" },
    { given({ 2, 2 }, { 0, 0, 0, 0 }), ref = nonzero, dtype = "i64" }, { T {}, ref = nonzero, dtype = "i64" },
      no_gradient = "positions", bad = { { 3, "must be a tensor" } },
  }
  local function bincount(where, w, least)
    local n = least or 0
    for _, v in ipairs(where) do n = math.max(n, v) end
    local out = { shape = { n } }
    for i = 1, n do out[i] = 0 end
    for i, v in ipairs(where) do out[v] = out[v] + (w and w[i] or 1) end
    return out
  end
  cases.bincount = {
    { ids({ 9 }, 5), ref = bincount, dtype = "i64", tol = 0 }, { ids({ 9 }, 5), T { 9 }, ref = bincount }, { ids({ 4 },
      3), nil, 6, n = 3, ref = bincount, dtype = "i64", tol = 0 },
    { given({ 0 }, {}, "i64"), nil, 2, n = 3, ref = bincount, dtype = "i64" }, { given({ 0 }, {}, "i64"), ref = bincount, dtype = "i64" },
    bad = { { given({ 2 }, { 1, 0 }, "i64"), "id 0 is below 1" }, { ids({ 3 }, 2), T { 2 }, "weights as long as ids" }, { ids({ 2, 2 },
      2), "ids must be 1-D" }, { ids({ 2 }, 2), T { 2 }, -1, "minlength = -1 is negative" } },
  }

  -- ---- scans ----
  local function scan(f)
    return function(x, dim, ...)
      local options = { ... }
      return along(x, dim, function(l) return f(l, unpack(options)) end)
    end
  end
  local function turned(l)
    local r = {}
    for i, v in ipairs(l) do r[#l - i + 1] = v end
    return r
  end
  local function running(start, step)
    return function(l)
      local out, acc = {}, start
      for i, v in ipairs(l) do
        acc = step(acc, v, i)
        out[i] = acc
      end
      return out
    end
  end
  local sums = running(0, function(a, v) return a + v end)
  local function cumsum_list(l, exclusive, reverse)
    if reverse then l = turned(l) end
    local out = sums(l)
    if exclusive then
      for i = 1, #l do out[i] = out[i] - l[i] end
    end
    return reverse and turned(out) or out
  end
  local cumsum = scan(cumsum_list)
  cases.cumsum = {
    { T { 3, 4 }, 1, ref = cumsum }, { T { 3, 4 }, 2, ref = cumsum }, { T { 2, 3, 2 }, 2, true, ref = cumsum }, { T { 6 },
      -1, false, true, ref = cumsum }, { T { 3, 4 }, 2, true, true, ref = cumsum },
    { T { 0, 3 }, 1, ref = cumsum }, { T { 1 }, 1, ref = cumsum }, { whole { 3, 4 }, 1, ref = cumsum, dtype = "i64", tol = 0 }, { mask { 7 },
      1, ref = cumsum, dtype = "i64", tol = 0 }, { T { 3, 200 }, 2, ref = cumsum, nograd = true },
    bad = { { T {}, 1, "a scalar has no dims" }, { T { 3 }, 2, "dim 2 is out of range" } },
  }
  local cumprod = scan(running(1, function(a, v) return a * v end))
  local zeros = { 1.5, 0, -2, 0.5, 3, 0, -1, 2, 0, 0, 1, 2 }
  cases.cumprod = {
    { T { 3, 4 }, 1, ref = cumprod }, { T { 3, 4 }, -1, ref = cumprod }, { T({ 3, 4 }, { values = zeros, leaf = true }), 2, ref = cumprod },
      { T({ 3, 4 }, { values = zeros, leaf = true }), 1, ref = cumprod },
    { T { 0 }, 1, ref = cumprod }, { whole { 5 }, 1, ref = cumprod, dtype = "i64", tol = 0 }, bad = { { T { 3 }, 2, "dim 2 is out of range" } },
  }
  local function best(better)
    return function(l)
      local out, at_, acc, where = {}, {}, nil, nil
      for i, v in ipairs(l) do
        if acc == nil or isnan(v) or (not isnan(acc) and better(v, acc)) then acc, where = v, i end
        out[i], at_[i] = acc, where
      end
      return out, at_
    end
  end
  for name, better in pairs { cummax = function(a, b) return a >= b end, cummin = function(a, b) return a <= b end } do
    local values = scan(best(better))
    local where = scan(function(l) return select(2, best(better)(l)) end)
    cases[name] = {
      { apart { 3, 4 }, 1, ref = values }, { apart { 3, 4 }, 2, ref = values }, { apart { 2, 5, 2 }, 2, ref = values }, { T { 0, 2 },
        1, ref = values }, { whole { 9 }, 1, ref = values, dtype = "i64", tol = 0 },
      { given({ 5 }, { 1, NAN, 3, huge, 0 }), 1, ref = values, nograd = true }, { whole { 3, 9 },
        2, ref = where, dtype = "i64", tol = 0, result = 2 }, { T { 3, 4 }, 1, ref = where, dtype = "i64", tol = 0, result = 2, nograd = true },
      bad = { { T {}, 1, "a scalar has no dims" } },
    }
  end
  local logcumsumexp = scan(running(-huge, function(a, v)
    local m = math.max(a, v)
    return m == -huge and m or m + math.log(math.exp(a - m) + math.exp(v - m))
  end))
  cases.logcumsumexp = {
    { T { 3, 4 }, 2, ref = logcumsumexp }, { T { 3, 4 }, 1, ref = logcumsumexp }, { T { 1 }, 1, ref = logcumsumexp }, { T { 2, 0 },
      2, ref = logcumsumexp },
    { given({ 5 }, { -200, 100, -300, 500, 499 }), 1, ref = logcumsumexp, nograd = true }, bad = { { T { 2 }, 3, "dim 3 is out of range" } },
  }
  local function linear_scan(a, b, dim, reverse)
    local shape = joint(a.shape, b.shape)
    local both = build(shape, function(idx) return { at(a, idx), at(b, idx) } end)
    return along(both, dim, function(l)
      local acc, out = 0, {}
      for i, v in ipairs(reverse and turned(l) or l) do
        acc = v[1] * acc + v[2]
        out[i] = acc
      end
      return reverse and turned(out) or out
    end)
  end
  cases.linear_scan = {
    { T { 3, 4 }, T { 3, 4 }, 2, ref = linear_scan }, { T { 3, 4 }, T { 3, 4 }, 1, true, ref = linear_scan }, { T { 4 }, T { 2, 4 },
      2, ref = linear_scan }, { T { 2, 5 }, T { 2, 1 }, -1, ref = linear_scan },
    { T { 0 }, T { 0 }, 1, ref = linear_scan }, bad = { { T { 3 }, T { 4 }, 1, "do not broadcast" }, { T { 3 }, T { 3 },
      2, "dim 2 is out of range" } },
  }
  local function count_nonzero(x, dims, keep)
    return reduce(x, dims, keep, function(l)
      local n = 0
      for _, v in ipairs(l) do n = n + (truth(v) and 1 or 0) end
      return n
    end)
  end
  cases.count_nonzero = {
    { whole { 3, 4 }, ref = count_nonzero, dtype = "i64" }, { whole { 3, 4 }, 2, ref = count_nonzero, dtype = "i64" }, { T { 2, 3, 4 }, { 1, 3 },
      true, ref = count_nonzero, dtype = "i64" },
    { mask { 3, 4 }, 1, ref = count_nonzero, dtype = "i64" }, { T { 0, 2 }, 1, ref = count_nonzero, dtype = "i64" },
      no_gradient = "it counts", bad = { { T { 2 }, 2, "dim 2 is out of range" } },
  }
  local function norm(x, p, dims, keep)
    p = p or 2
    return reduce(x, dims, keep, function(l)
      local s = p == -huge and huge or 0
      for _, v in ipairs(l) do
        v = math.abs(v)
        if p == huge then s = math.max(s, v) elseif p == -huge then s = math.min(s,
          v) elseif p == 0 then s = s + (v ~= 0 and 1 or 0) else s = s + v ^ p end
      end
      return (p == huge or p == -huge or p == 0) and s or s ^ (1 / p)
    end)
  end
  local far = { away = { 0 }, apart = 0.31 }
  cases.norm = {
    { T { 3, 4 }, ref = norm }, { T({ 3, 4 }, far), 1, 2, ref = norm }, { T({ 3, 4 }, far), 3, 1, true, ref = norm }, { T({ 2, 3, 4 },
      far), huge, { 1, 3 }, ref = norm }, { T({ 3, 4 }, far), -huge, 2, ref = norm },
    { T({ 3, 4 }, { -2, -0.4 }), 0.5, 2, ref = norm }, { T { 3, 4 }, 0, 1, ref = norm, nograd = true }, { given({ 2, 2 },
      { 0, 0, 3, 4 }), 2, 2, ref = norm, nograd = true },
    bad = { { T { 2 }, 2, 2, "dim 2 is out of range" }, { T { 2 }, NAN, "p is not a number" } },
  }

  -- ---- sorting ----
  local function order(l, down)
    local o = {}
    for i = 1, #l do o[i] = i end
    local function less(a, b)
      if isnan(a) then return false end
      return isnan(b) or a < b
    end
    table.sort(o, function(i, k)
      local a, b = l[i], l[k]
      if down then a, b = b, a end
      if less(a, b) then return true end
      if less(b, a) then return false end
      return i < k
    end)
    return o
  end
  local function sorted(l, down)
    local o = order(l, down)
    for i, k in ipairs(o) do o[i] = l[k] end
    return o
  end
  local function sort(x, dim, down) return along(x, dim or -1, function(l) return sorted(l, down) end) end
  local function argsort(x, dim, down) return along(x, dim or -1, function(l) return order(l, down) end) end
  local odd = { 1, NAN, -1, huge, -huge, 0, -0.0, 2, NAN, 0, 1, -1 }
  cases.sort = {
    { apart { 3, 4 }, ref = sort }, { apart { 3, 4 }, 1, true, ref = sort }, { apart { 2, 5, 2 }, 2, ref = sort }, { T { 0, 3 }, 1, ref = sort },
      { T { 1 }, ref = sort }, { given({ 12 }, odd), ref = sort, nograd = true },
    { whole { 3, 40 }, -1, true, ref = sort, dtype = "i64", tol = 0 }, { mask { 30 }, ref = sort, dtype = "bool" }, { T({ 60 },
      { dtype = "u8", lo = 0, hi = 9 }), ref = sort, dtype = "u8", tol = 0 },
    { T { 2, 300 }, ref = sort, nograd = true }, { whole { 3, 70 }, 2, ref = argsort, dtype = "i64", tol = 0, result = 2 }, { T({ 70 },
      { dtype = "i32", lo = -4, hi = 4 }), 1, true, ref = argsort, dtype = "i64", tol = 0, result = 2 },
    bad = { { T {}, "a scalar has no dims" } },
  }
  cases.argsort = {
    { T { 3, 4 }, ref = argsort, dtype = "i64", tol = 0 }, { whole { 40, 3 }, 1, true, ref = argsort, dtype = "i64", tol = 0 }, { given({ 12 },
      odd), ref = argsort, dtype = "i64", tol = 0 }, { T { 0 }, ref = argsort, dtype = "i64" },
    no_gradient = "positions", bad = { { T {}, "a scalar has no dims" }, { T { 2 }, 2, "dim 2 is out of range" } },
  }
  local function cut(x, dim, n)
    local shape = copy(x.shape)
    shape[dim_of(dim, #shape)] = n
    return build(shape, function(idx) return x[flat_of(x.shape, idx)] end)
  end
  local function topk(x, k, dim, largest) return cut(sort(x, dim, largest ~= false), dim or -1, k) end
  cases.topk = {
    { apart { 3, 5 }, 2, ref = topk }, { apart { 5, 3 }, 3, 1, false, ref = topk }, { apart { 4 }, 4, ref = topk }, { T { 4 }, 0, ref = topk },
      { whole { 2, 9 }, 4, ref = topk, dtype = "i64", tol = 0 },
    { whole { 2, 9 }, 4, 2, ref = function(x, k, dim) return cut(argsort(x, dim, true), dim, k) end, dtype = "i64", tol = 0, result = 2 },
    bad = { { T { 4 }, 5, "k = 5 is not in 0..4, the size of dim 1" }, { T { 4 }, -1, "k = -1 is not in 0..4" }, { T { 4 },
      1.5, "must be an integer" } },
  }
  local function chosen(pick, what)
    return function(x, dim, keep)
      return reduce(x, dim, keep, function(l)
        local i = pick(l)
        return what == 2 and i or l[i]
      end)
    end
  end
  local function first_of(better)
    return function(l)
      local i = 1
      for k = 2, #l do
        if better(l[k], l[i]) then i = k end
      end
      return i
    end
  end
  for name, better in pairs { max = function(a, b) return a > b end, min = function(a, b) return a < b end } do
    local value, where = chosen(first_of(better)), chosen(first_of(better), 2)
    cases[name] = {
      { apart { 3, 4 }, 1, ref = value }, { apart { 3, 4 }, -1, true, ref = value }, { apart { 2, 3, 2 }, 2, ref = value }, { apart { 3, 4 },
        ref = value }, { whole { 3, 9 }, 2, ref = value, dtype = "i64", tol = 0 },
      { whole { 3, 9 }, 2, ref = where, dtype = "i64", tol = 0, result = 2 }, { T { 3, 4 },
        1, true, ref = where, dtype = "i64", tol = 0, result = 2, nograd = true }, { T { 1 }, 1, ref = value }, { T { 0, 3 }, 2, ref = value },
      { T({ 3, 4 }, { apart = 0 }), T({ 4 }, { apart = 2 }), ref = function(x, y)
        return build(x.shape, function(idx)
          local a, b = at(x, idx), y[idx[2]]
          return better(a, b) and a or b
        end)
      end },
      bad = { { T { 2 }, T { 3 }, "shapes do not broadcast" }, { T { 2 }, "one", "argument 'dim' must be a tensor or a dim, got string" },
        { T { 0 }, 1, "nothing to choose from" }, { T { 0 }, "nothing to choose from" }, { T { 2 }, 2, "dim 2 is out of range" } },
    }
  end
  local function middle(l)
    local o = order(l)
    return isnan(l[o[#l]]) and o[#l] or o[(#l + 1) // 2]
  end
  local median = chosen(middle)
  cases.median = {
    { apart { 3, 4 }, 1, ref = median }, { apart { 3, 4 }, 2, true, ref = median }, { apart { 2, 3 }, ref = median }, { apart { 5 },
      nil, true, n = 3, ref = median }, { given({ 2, 3 }, { 1, NAN, 2, 3, 1, 2 }), 2, ref = median, nograd = true },
    { whole { 3, 8 }, 2, ref = chosen(middle, 2), dtype = "i64", tol = 0, result = 2 }, { whole { 5 }, ref = median, dtype = "i64" },
      bad = { { T { 0 }, 1, "nothing to choose from" }, { T { 3 }, 2, "dim 2 is out of range" } },
  }
  local function quantile_list(l, q, method)
    local s = sorted(l)
    if isnan(s[#s]) then return NAN end
    local p = q * (#s - 1)
    local lo = math.floor(p)
    local a, b, w = s[lo + 1], s[math.ceil(p) + 1], p - lo
    if method == "lower" then return a elseif method == "higher" then return b
      elseif method == "midpoint" then return lo == p and a or (a + b) / 2 end
    if method == "nearest" then return s[(w < 0.5 or (w == 0.5 and lo % 2 == 0)) and lo + 1 or lo + 2] end
    return lo == p and a or a + w * (b - a)
  end
  local function quantile(x, q, dim, keep, method)
    if type(q) ~= "table" then return reduce(x, dim, keep, function(l) return quantile_list(l, q, method) end) end
    local out = { shape = {} }
    for _, v in ipairs(q) do
      local one = quantile(x, v, dim, keep, method)
      for _, e in ipairs(one) do out[#out + 1] = e end
      out.shape = { #q, unpack(one.shape) }
    end
    return out
  end
  cases.quantile = {
    { apart { 3, 4 }, 0.3, 2, ref = quantile }, { apart { 5, 2 }, 0.6, 1, true, ref = quantile }, { apart { 3, 4 }, 0.25, ref = quantile },
      { apart { 3, 4 }, given({ 3 }, { 0, 0.5, 1 }), 2, ref = quantile },
    { apart { 7 }, given({ 2 }, { 0.25, 0.75 }), nil, true, n = 4, ref = quantile }, { given({ 2, 3 },
      { 1, NAN, 2, 3, 1, 2 }), 0.5, 2, ref = quantile, nograd = true }, { whole { 9 }, 0.5, ref = quantile },
    bad = {
      { T { 3 }, 1.5, "q = 1.5 is not in 0..1" }, { T { 3 }, NAN, "is not in 0..1" }, { T { 0 }, 0.5, "nothing to choose from" }, { T { 3 },
        0.5, 1, false, "best", 'method = "best"; there are linear, lower' },
      { T { 3 }, T { 2, 2 }, "q must be a number or a 1-D tensor" }, { T { 3 }, 0.5, 2, "dim 2 is out of range" },
    },
  }
  for _, method in ipairs { "lower", "higher", "nearest", "midpoint" } do
    for _, q in ipairs { 0, 0.4, 0.5, 1 } do table.insert(cases.quantile, { apart { 3, 4 }, q, 2, false, method, ref = quantile }) end
  end
  local function searchsorted(table_, v, right)
    v = type(v) == "table" and v or { v, shape = {} }
    local n = table_.shape[#table_.shape]
    return build(v.shape, function(idx)
      local base, e, k = 0, v[flat_of(v.shape, idx)], 0
      if #table_.shape > 1 then
        for d = 1, #v.shape - 1 do base = base * v.shape[d] + idx[d] - 1 end
      end
      while k < n and (isnan(e) or table_[base * n + k + 1] < e or (right and table_[base * n + k + 1] == e)) do k = k + 1 end
      return k + 1
    end)
  end
  local steps, two = given({ 6 }, { -2, -1, -1, 0, 0, 2 }), given({ 2, 3 }, { -1, 0, 1, 0, 0, 2 })
  cases.searchsorted = { no_gradient = "positions", bad = { { T { 2, 3 }, T { 3, 2 }, "they may differ in the last dim only" }, { T { 2, 3 },
    T { 2 }, "they may differ in the last dim only" } } }
  for _, right in ipairs { false, true } do
    for _, c in ipairs {
      { steps, T { 7 }, right }, { steps, given({ 5 }, { -1, 0, 2, 9, NAN }), right }, { steps, whole { 2, 3 }, right }, { two, whole { 2, 4 },
        right }, { steps, 0.5, right }, { given({ 0 }, {}), T { 3 }, right },
      { given({ 4 }, { 1, 1, 2, 3 }, "i64"), whole { 6 }, right } } do
      c.ref, c.dtype, c.tol, c.layouts = searchsorted, "i64", 0, false
      table.insert(cases.searchsorted, c)
    end
  end
  -- what is different among the elements (or the slices along dim), by plain comparison of all with all
  local function unique(what)
    return function(x, dim, o)
      local appear = type(dim) == "table" and dim.sorted == false or o and o.sorted == false
      dim = type(dim) == "number" and dim_of(dim, #x.shape) or nil
      local n, slices = dim and x.shape[dim] or #x, {}
      for i = 1, n do slices[i] = dim and {} or { x[i] } end
      if dim then
        build(x.shape, function(idx) table.insert(slices[idx[dim]], at(x, idx)) end)
      end
      local function compare(a, b) -- -1, 0, 1
        for k = 1, #a do
          if a[k] ~= b[k] then return a[k] < b[k] and -1 or 1 end
        end
        return 0
      end
      local groups, number = {}, {}
      for i = 1, n do
        local mine
        for _, g in ipairs(groups) do
          if compare(slices[g.first], slices[i]) == 0 then mine = g end
        end
        if not mine then
          mine = { first = i, count = 0 }
          groups[#groups + 1] = mine
        end
        mine.count = mine.count + 1
        number[i] = mine
      end
      if not appear then table.sort(groups, function(a, b) return compare(slices[a.first], slices[b.first]) < 0 end) end
      for k, g in ipairs(groups) do g.place = k end
      local out = { shape = { #groups } }
      if what == 1 and dim then
        local shape = copy(x.shape)
        shape[dim] = #groups
        return build(shape, function(idx)
          local from = copy(idx)
          from[dim] = groups[idx[dim]].first
          return at(x, from)
        end)
      elseif what == 2 then
        out.shape = dim and { n } or x.shape
        for i = 1, n do out[i] = number[i].place end
      else
        for k, g in ipairs(groups) do out[k] = what == 1 and x[g.first] or what == 3 and g.count or g.first end
      end
      return out
    end
  end
  local some_rows = given({ 5, 3 }, { 2, 1, 0, 1, 9, 9, 2, 1, 0, 1, 3, 4, 1, 9, 9 })
  cases.unique = {
    { apart { 3, 4 }, ref = unique(1) }, { whole { 3, 8 }, ref = unique(1), dtype = "i64", tol = 0 }, { T { 0 }, ref = unique(1) },
    { T { 0, 2 }, ref = unique(2), dtype = "i64", result = 2, nograd = true }, { T {}, ref = unique(1) },
    { given({ 4 }, { 2, 1, 2, 1 }), ref = unique(1), nograd = true }, { apart { 3, 4 }, 1, ref = unique(1) },
    { apart { 2, 3, 4 }, -2, ref = unique(1) }, { apart { 7 }, { sorted = false }, ref = unique(1) },
    { T { 0, 2 }, 1, ref = unique(1) }, { T { 3, 0 }, 1, ref = unique(1) }, { mask { 9, 2 }, 1, ref = unique(1), dtype = "bool" },
    { whole({ 40, 70 }, 0, 1), 1, ref = unique(1), dtype = "i64" }, { some_rows, 1, { sorted = false }, ref = unique(1), nograd = true },
    bad = { { "x", "must be a tensor" }, { T { 2 }, 2, "dim 2 is out of range" } },
  }
  for k = 2, 4 do
    for _, c in ipairs {
      { whole { 3, 8 } }, { whole { 20 } }, { whole { 3, 8 }, { sorted = false } }, { some_rows, 1 }, { some_rows, 1, { sorted = false } },
      { whole({ 3, 12, 2 }, 0, 1), 2 }, { whole({ 2, 2, 9 }, -1, 0), -1, { sorted = false } }, { whole({ 30, 7 }, 0, 1), 1 }, { T { 3, 0 }, 1 },
    } do
      c.ref, c.dtype, c.tol, c.result, c.nograd = unique(k), "i64", 0, k, true
      table.insert(cases.unique, c)
    end
  end

  -- ---- shapes ----
  local function same(shape_of)
    return function(x, ...)
      local out = copy(x)
      out.shape = shape_of(x, ...)
      return out
    end
  end
  local function viewed(x, shape)
    local out, known, open = copy(shape), 1, nil
    for d, s in ipairs(shape) do
      if s == -1 then open = d else known = known * s end
    end
    if open then out[open] = numel(x.shape) // known end
    return out
  end
  cases.view = { -- other layouts than row-major have no such views, so only cases from the fourth on are differentiated (in one layout)
    { T { 0, 2 }, { 0 }, ref = same(viewed), nograd = true }, { whole { 2, 2 }, { 4, 1 }, ref = same(viewed), dtype = "i64" }, { T { 6 }, { 6 },
      ref = same(viewed), nograd = true },
    { T { 3, 4 }, { 2, 6 }, ref = same(viewed) }, { T { 3, 4 }, { -1 }, ref = same(viewed) }, { T {}, { 1, 1 }, ref = same(viewed) },
    bad = { { T { 3, 4 }, { 5 }, "cannot take the shape" }, { T { 3, 4 }, { -2, 6 }, "is negative" } } }
  for _, c in ipairs(cases.view) do c.layouts = false end
  local function broadcast(x, shape) return build(shape, function(idx) return at(x, idx) end) end
  cases.broadcast_to = { { T { 3, 1 }, { 3, 4 }, ref = broadcast }, { T { 3 }, { 2, 3 }, ref = broadcast }, { T {}, { 2, 2 }, ref = broadcast },
    { T { 1 }, { 0 }, ref = broadcast },
    bad = { { T { 3 }, { 4 }, "cannot be expanded" }, { T { 3 }, { -2, 3 }, "cannot be expanded" } } }
  local function movedim(x, from, to)
    local nd, dims, taken, order_ = #x.shape, {}, {}, {}
    from, to = list(from), list(to)
    for i, d in ipairs(from) do
      dims[dim_of(to[i], nd)] = dim_of(d, nd)
      taken[dim_of(d, nd)] = true
    end
    local k = 1
    for d = 1, nd do
      if not dims[d] then
        while taken[k] do k = k + 1 end
        dims[d], k = k, k + 1
      end
      order_[d] = x.shape[dims[d]]
    end
    return build(order_, function(idx)
      local xi = {}
      for d = 1, nd do xi[dims[d]] = idx[d] end
      return x[flat_of(x.shape, xi)]
    end)
  end
  cases.movedim = { { T { 2, 3, 4 }, 1, -1, ref = movedim }, { T { 2, 3, 4 }, { 1, 2 }, { 3, 1 }, ref = movedim }, { T { 2, 3 },
    2, 1, ref = movedim }, { T { 0, 2 }, 1, 2, ref = movedim },
    bad = { { T { 2, 3 }, { 1, 2 }, 1, "2 dims are to be moved to 1 places" }, { T { 2, 3 }, { 1, 1 }, { 1, 2 }, "dim 1 is named twice" } } }
  local function narrow(x, dim, start, n)
    local d, shape = dim_of(dim, #x.shape), copy(x.shape)
    shape[d] = n
    return build(shape, function(idx)
      local xi = copy(idx)
      xi[d] = xi[d] + start - 1
      return x[flat_of(x.shape, xi)]
    end)
  end
  cases.narrow = { { T { 3, 5 }, 2, 2, 3, ref = narrow }, { T { 3, 5 }, 1, 3, 1, ref = narrow }, { T { 3, 5 }, -1, 6, 0, ref = narrow },
    { whole { 4 }, 1, 1, 4, ref = narrow, dtype = "i64" },
    bad = { { T { 3 }, 1, 3, 2, "2 elements from position 3 on are not in dim 1, which has size 3" }, { T { 3 },
      1, 0, 1, "positions count from 1" }, { T { 3 }, 1, 1, -1, "-1 elements" } } }
  local function tile(x, reps)
    local nd = math.max(#reps, #x.shape)
    local shape, from = {}, {}
    for d = 1, nd do
      from[d] = x.shape[d - (nd - #x.shape)] or 1
      shape[d] = from[d] * (reps[d - (nd - #reps)] or 1)
    end
    return build(shape, function(idx)
      local xi = {}
      for d = 1, nd do xi[d] = (idx[d] - 1) % from[d] + 1 end
      return x[flat_of(from, xi)]
    end)
  end
  cases.tile = { { T { 2, 3 }, { 2, 2 }, ref = tile }, { T { 2, 3 }, { 3 }, ref = tile }, { T { 3 }, { 2, 1, 2 }, ref = tile }, { T { 3 }, { 0 },
    ref = tile }, { T {}, { 3 }, ref = tile }, { whole { 2 }, { 2 }, ref = tile, dtype = "i64" },
    bad = { { T { 3 }, { -1 }, "-1 repetitions" }, { T { 3 }, { 1, 1, 1, 1, 1, 1, 1, 1, 1 }, "at most 8" }, { T { 3 }, { 1 << 62 }, "" } } }
  local function repeated(x, n, dim)
    local src, d = x, dim and dim_of(dim, #x.shape) or 1
    if not dim then
      src = copy(x)
      src.shape = { #x }
    end
    local from = {}
    for i = 1, src.shape[d] do
      for _ = 1, type(n) == "table" and n[i] or n do from[#from + 1] = i end
    end
    local shape = copy(src.shape)
    shape[d] = #from
    return build(shape, function(idx)
      local xi = copy(idx)
      xi[d] = from[xi[d]]
      return src[flat_of(src.shape, xi)]
    end)
  end
  cases.repeat_interleave = { { T { 2, 3 }, 2, 2, ref = repeated }, { T { 2, 3 }, 3, ref = repeated }, { T { 3, 2 }, given({ 3 }, { 2, 0, 3 },
    "i64"), 1, ref = repeated }, { T { 2, 3 }, 0, 1, ref = repeated }, { T { 2, 3 }, 1, -1, ref = repeated },
    bad = { { T { 3 }, -1, "an integer of 0 or more" }, { T { 3 }, 1.5, "an integer of 0 or more" }, { T { 3 }, given({ 2 }, { 1, 1 },
      "i64"), 1, "as long as dim 1 (3)" }, { T { 2 }, given({ 2 }, { 1, -1 }, "i64"), 1, "-1 repetitions" } } }
  local function flip(x, dims)
    local on = {}
    for _, d in ipairs(list(dims)) do on[dim_of(d, #x.shape)] = true end
    return build(x.shape, function(idx)
      local xi = {}
      for d, i in ipairs(idx) do xi[d] = on[d] and x.shape[d] - i + 1 or i end
      return x[flat_of(x.shape, xi)]
    end)
  end
  cases.flip = { { T { 3, 4 }, 1, ref = flip }, { T { 2, 3, 4 }, { 1, -1 }, ref = flip }, { T { 0, 2 }, 1, ref = flip }, { whole { 3 },
    1, ref = flip, dtype = "i64" }, bad = { { T { 3, 3 }, { 1, 1 }, "dim 1 is named twice" } } }
  local function roll(x, shifts, dims)
    if not dims then
      local out = { shape = x.shape }
      for i = 1, #x do out[i] = x[(i - 1 - list(shifts)[1]) % #x + 1] end
      return out
    end
    local by = {}
    for i, d in ipairs(list(dims)) do by[dim_of(d, #x.shape)] = list(shifts)[i] end
    return build(x.shape, function(idx)
      local xi = {}
      for d, i in ipairs(idx) do xi[d] = (i - 1 - (by[d] or 0)) % x.shape[d] + 1 end
      return x[flat_of(x.shape, xi)]
    end)
  end
  cases.roll = { { T { 3, 4 }, 1, ref = roll }, { T { 3, 4 }, 5, 2, ref = roll }, { T { 2, 3, 4 }, { 1, -2 }, { 1, 3 }, ref = roll }, { T { 0 },
    1, 1, ref = roll }, { whole { 4 }, -1, 1, ref = roll, dtype = "i64" },
    bad = { { T { 3, 3 }, { 1, 2 }, 1, "2 shifts for 1 dims" }, { T { 3, 3 }, { 1, 2 }, "one shift moves the flattened tensor" } } }
  local function pad(x, pads, mode, v)
    local nd, shape, before = #x.shape, copy(x.shape), {}
    for k = 1, #pads // 2 do
      local d = nd - k + 1
      before[d] = pads[2 * k - 1]
      shape[d] = shape[d] + pads[2 * k - 1] + pads[2 * k]
    end
    return build(shape, function(idx)
      local xi = {}
      for d = 1, nd do
        local n, i = x.shape[d], idx[d] - (before[d] or 0)
        if mode == "replicate" then i = math.max(1, math.min(n, i))
        elseif mode == "circular" then i = (i - 1) % n + 1
        elseif mode == "reflect" then
          if i < 1 then i = 2 - i elseif i > n then i = 2 * n - i end
        elseif i < 1 or i > n then return v or 0 end
        xi[d] = i
      end
      return x[flat_of(x.shape, xi)]
    end)
  end
  cases.pad = { { T { 3, 4 }, { 1, 2 }, ref = pad }, { T { 3, 4 }, { 1, 2, 0, 3 }, "constant", 5, ref = pad }, { T { 3, 4 }, { -1, 2 }, ref = pad },
    { T { 3, 4 }, { 2, 3 }, "reflect", ref = pad }, { T { 3, 4 }, { 1, 1, 2, 1 }, "reflect", ref = pad },
    { T { 3, 4 }, { 2, 5, 1, 1 }, "replicate", ref = pad }, { T { 3, 4 }, { 2, 3, 1, 1 }, "circular", ref = pad }, { T { 0, 2 }, { 1, 1 },
      ref = pad }, { whole { 3 }, { 1, 1 }, ref = pad, dtype = "i64" }, { T { 5 }, { -1, 2 }, "replicate", ref = function(x)
      return pad(narrow(x, 1, 2, 4), { 0, 2 }, "replicate") end },
    bad = { { T { 3 }, { 1 }, "they come in pairs" }, { T { 3 }, { 1, 1, 1, 1 }, "4 border sizes for 1 dims" }, { T { 3 }, { 1, 1 },
      "mirror", 'mode = "mirror"; there are constant' }, { T { 3 }, { 3, 0 }, "reflect", "are too wide for dim 1 of size 3" },
      { T { 3 }, { -2, -2 }, "cut more than dim 1 of size 3 has" }, { T { 0 }, { 1, 1 }, "replicate", "are too wide" }, { T { 3 },
        { 1 << 61, 1 << 61 }, "too large" } } }
  local function triangle(keep)
    return function(x, k)
      return build(x.shape, function(idx)
        local n = #x.shape
        return keep(idx[n] - idx[n - 1], k or 0) and x[flat_of(x.shape, idx)] or 0
      end)
    end
  end
  for name, ref in pairs { tril = triangle(function(d, k) return d <= k end), triu = triangle(function(d, k) return d >= k end) } do
    cases[name] = { { T { 3, 4 }, ref = ref }, { T { 4, 3 }, 1, ref = ref }, { T { 2, 3, 3 }, -1, ref = ref }, { T { 3, 3 }, 99, ref = ref },
      { T { 3, 3 }, math.mininteger, ref = ref }, { T { 0, 3 }, ref = ref },
      { whole { 3, 3 }, ref = ref, dtype = "i64" }, bad = { { T { 3 }, "at least 2 dims are needed" } } }
  end
  local function diagonal(x, k, d1, d2)
    local nd, rest, shape = #x.shape, {}, {}
    k, d1, d2 = k or 0, dim_of(d1 or 1, nd), dim_of(d2 or 2, nd)
    for d = 1, nd do
      if d ~= d1 and d ~= d2 then rest[#rest + 1], shape[#shape + 1] = d, x.shape[d] end
    end
    shape[#shape + 1] = math.max(0, math.min(x.shape[d1] + math.min(k, 0), x.shape[d2] - math.max(k, 0)))
    return build(shape, function(idx)
      local xi = {}
      for i, d in ipairs(rest) do xi[d] = idx[i] end
      xi[d1], xi[d2] = idx[#shape] - math.min(k, 0), idx[#shape] + math.max(k, 0)
      return x[flat_of(x.shape, xi)]
    end)
  end
  local function diag_embed(x, k, d1, d2)
    local nd, rest, shape = #x.shape + 1, {}, {}
    k, d1, d2 = k or 0, dim_of(d1 or -2, nd), dim_of(d2 or -1, nd)
    for d = 1, nd do
      shape[d] = (d == d1 or d == d2) and x.shape[nd - 1] + math.abs(k) or nil
      if not shape[d] then
        rest[#rest + 1] = d
        shape[d] = x.shape[#rest]
      end
    end
    return build(shape, function(idx)
      if idx[d2] - idx[d1] ~= k then return 0 end
      local xi = {}
      for i, d in ipairs(rest) do xi[i] = idx[d] end
      xi[nd - 1] = math.min(idx[d1], idx[d2])
      return x[flat_of(x.shape, xi)]
    end)
  end
  cases.diagonal = { { T { 3, 4 }, ref = diagonal }, { T { 4, 3 }, -1, ref = diagonal }, { T { 2, 3, 4 }, 1, 1, 3, ref = diagonal },
    { T { 2, 3, 4 }, 0, 3, 2, ref = diagonal }, { T { 3, 3 }, 5, ref = diagonal },
    bad = { { T { 3 }, "at least 2 dims" }, { T { 3, 3 }, 0, 1, 1, "dim1 and dim2 are both 1" } } }
  cases.diag_embed = { { T { 3 }, ref = diag_embed }, { T { 2, 3 }, 1, ref = diag_embed }, { T { 2, 3 }, -2, 1, 3, ref = diag_embed }, { T { 2, 3 },
    1, 3, 1, ref = diag_embed }, { T { 2, 0 }, ref = diag_embed },
    bad = { { T {}, "1..7 dims are needed" }, { T { 3 }, 0, 1, 1, "dim1 and dim2 are both 1" }, { T { 3 }, 1 << 40, "is too large" } } }
  cases.diag = { { T { 3 }, ref = diag_embed }, { T { 3 }, -1, ref = diag_embed }, { T { 3, 4 }, 1, ref = diagonal }, { whole { 3, 3 },
    ref = diagonal, dtype = "i64" }, bad = { { T { 2, 2, 2 }, "a vector or a matrix is needed" }, { T {}, "a vector or a matrix" } } }
  local function unfold(x, dim, size, step)
    local d, shape = dim_of(dim, #x.shape), copy(x.shape)
    shape[d] = (x.shape[d] - size) // (step or 1) + 1
    shape[#shape + 1] = size
    return build(shape, function(idx)
      local xi = { unpack(idx, 1, #x.shape) }
      xi[d] = (xi[d] - 1) * (step or 1) + idx[#shape]
      return x[flat_of(x.shape, xi)]
    end)
  end
  cases.unfold = { { T { 7 }, 1, 3, ref = unfold }, { T { 3, 5 }, 2, 2, 2, ref = unfold }, { T { 5, 2 }, 1, 5, 3, ref = unfold }, { T { 3, 4, 2 },
    -2, 2, ref = unfold }, { T { 3, 0 }, 1, 2, ref = unfold },
    bad = { { T { 3 }, 1, 4, "windows of 4 every 1 in dim 1 of size 3" }, { T { 3 }, 1, 2, 0, "every 0" } } }

  -- ---- from nothing ----
  local function matrix(f)
    return function(rows, cols, k) return build({ rows, cols or rows }, function(idx) return f(idx[1], idx[2], k or 0) and 1 or 0 end) end
  end
  local tri, eye = matrix(function(i, j, k) return j <= i + k end), matrix(function(i, j) return i == j end)
  cases.tri = { { 3, ref = tri }, { 3, 4, 1, ref = tri }, { 3, 4, -1, ref = tri }, { 2, 2, 0, "bool", ref = tri, dtype = "bool" },
    { 0, 3, ref = tri }, no_gradient = "no argument is a tensor",
    bad = { { -1, "size -1x-1 is negative or too large" }, { 1 << 40, 1 << 40, "too large" }, { 2.5, "must be an integer" } } }
  cases.eye = { { 3, ref = function(n) return eye(n) end }, { 2, 4, ref = function(n, m) return eye(n, m) end },
    { 3, nil, "i64", n = 3, ref = function(n) return eye(n) end, dtype = "i64" }, { 0, ref = function(n) return eye(n) end },
    no_gradient = "no argument is a tensor", bad = { { -2, "negative or too large" }, { 1 << 62, "too large" } } }
  local function linspace(a, b, n)
    return build({ n }, function(idx) return n == 1 and a or a + (b - a) * (idx[1] - 1) / (n - 1) end)
  end
  -- the same in whole numbers: eighths, so that fractions of the ends count
  local function integers(a, b, n)
    return build({ n }, function(idx)
      local p, q = math.tointeger(a * 8 // 1), math.tointeger(b * 8 // 1)
      local over, under = n == 1 and p or p * (n - 1) + (q - p) * (idx[1] - 1), n == 1 and 8 or 8 * (n - 1)
      return over < 0 and -(-over // under) or over // under
    end)
  end
  cases.linspace = { { 0, 1, 7, ref = linspace }, { -3, 3, 4, ref = linspace }, { 5, 2, 5, ref = linspace }, { 2, 5, 1, ref = linspace },
    { 0, 1, 0, ref = linspace }, { 0, 8, 5, "i64", ref = linspace, dtype = "i64" }, { 0.1, 0.7, 1001, ref = linspace },
    { 0, 7, 50, "i64", ref = integers, dtype = "i64", tol = 0 }, { -7, 7, 5, "i64", ref = integers, dtype = "i64", tol = 0 },
    { 3, -10, 12, "i32", ref = integers, dtype = "i32", tol = 0 }, { -0.75, 9.25, 9, "i64", ref = integers, dtype = "i64", tol = 0 },
    { -2.5, -2.5, 1, "i64", ref = integers, dtype = "i64", tol = 0 }, { -3 * 2 ^ 50, 4e15, 6, "i64", ref = integers, dtype = "i64", tol = 0 },
    { 0, 0.2, 3, "i64", ref = integers, dtype = "i64", tol = 0 }, { 0, 255, 4, "u8", ref = integers, dtype = "u8", tol = 0 },
    no_gradient = "no argument is a tensor", bad = { { 0, 1, -1, "negative or too large" }, { 0, 1, 1 << 62, "too large" },
      { 0, 2 ^ 52, 3, "i64", "both must be below 2^52" }, { 0, 0 / 0, 3, "i64", "both must be below 2^52" } } }
  local function logspace(a, b, n, base)
    local l = linspace(a, b, n)
    for i = 1, #l do l[i] = (base or 10) ^ l[i] end
    return l
  end
  cases.logspace = { { 0, 2, 5, ref = logspace }, { -2, 3, 6, 2, ref = logspace }, { 0, 1, 0, ref = logspace },
    no_gradient = "no argument is a tensor", bad = { { 0, 1, 3, -2, "base = -2, it must be above 0" }, { 0, 1, -3, "negative or too large" } } }

  -- ---- draws: the battery seeds before every call, so streams count from 0 ----
  local function word64(stream, i) return M.philox_word(M.seed, stream, 2 * i) | M.philox_word(M.seed, stream, 2 * i + 1) << 32 end
  local function high(x, n) -- the upper 64 bits of an unsigned product, n < 2^31
    local lo, hi = (x & 0xffffffff) * n, (x >> 32) * n
    return (hi + (lo >> 32)) >> 32
  end
  local function randint(lo, hi, shape)
    local i = -1
    return build(shape, function()
      i = i + 1
      return lo + high(word64(0, i), hi - lo)
    end)
  end
  cases.randint = { { 0, 10, { 4, 5 }, ref = randint, dtype = "i64", tol = 0 }, { -5, 2, { 9 }, ref = randint, dtype = "i64", tol = 0 },
    { 1, 2, { 3 }, ref = randint, dtype = "i64", tol = 0 }, { 0, 7, { 6 }, "f32", ref = randint, tol = 0 },
    { 0, 2, { 0 }, ref = randint, dtype = "i64" }, no_gradient = "no argument is a tensor", bad = { { 3, 3, { 2 },
      "low = 3 is not below high = 3" }, { 0, 2, { -1 }, "negative or too large" }, { 0, 2, { 1 << 40, 1 << 40 }, "too large" } } }
  local function randperm(n)
    local keys = {}
    for i = 1, n do keys[i] = word64(0, i - 1) >> 2 end -- the upper half of a product with 2^62
    local o = order(keys)
    o.shape = { n }
    return o
  end
  cases.randperm = { { 9, ref = randperm, dtype = "i64", tol = 0 }, { 200, ref = randperm, dtype = "i64", tol = 0 },
    { 0, ref = randperm, dtype = "i64" }, { 1, ref = randperm, dtype = "i64" }, no_gradient = "no argument is a tensor",
    bad = { { -1, "negative or too large" }, { 1 << 62, "too large" } } }
  local function uniform(stream, i) return (M.philox_word(M.seed, stream, i) >> 8) * 2.0 ^ -24 end
  local function multinomial(p, count, replacement)
    local n = p.shape[#p.shape]
    local shape = copy(p.shape)
    shape[#shape] = count
    local out = { shape = shape }
    for row = 0, #p // n - 1 do
      local w = { unpack(p, row * n + 1, row * n + n) }
      if replacement then
        local s = sums(w)
        for i = 0, count - 1 do
          local v, k = uniform(0, row * count + i) * s[n], 1
          while k < n and s[k] <= v do k = k + 1 end
          out[#out + 1] = k
        end
      else
        for i = 1, n do
          local e = math.max(-math.log(1 - uniform(0, row * n + i - 1)), 1e-9)
          w[i] = w[i] > 0 and math.log(w[i]) - math.log(e) or -huge
        end
        local o = order(w, true)
        for i = 1, count do out[#out + 1] = o[i] end
      end
    end
    return out
  end
  local weights = T({ 2, 6 }, { 0.1, 2 })
  cases.multinomial = { { weights, 4, ref = multinomial, dtype = "i64", tol = 0 }, { weights, 9, true, ref = multinomial, dtype = "i64", tol = 0 },
    { given({ 4 }, { 0, 1, 0, 2 }), 2, ref = multinomial, dtype = "i64", tol = 0 },
    { given({ 4 }, { 0, 1, 0, 2 }), 30, true, ref = multinomial, dtype = "i64", tol = 0 }, no_gradient = "positions",
    bad = { { T { 3 }, 4, "4 draws of 3, with replacement = false" }, { T { 3 }, -1, "-1 draws" }, { T { 2, 2, 2 },
      1, "probs must have 1 or 2 dims" }, { T { 0 }, 1, true, "1 draws of 0" } } }
  return cases
end
