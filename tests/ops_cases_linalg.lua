-- Cases of the operator battery for linear algebra. The format is that of ops_cases.lua, which calls the function of this file with its helpers
-- and merges what it gives. References work on nested tables in doubles: elimination, Householder's QR, Jacobi's rotations.
return function(M)
  local build, at, T = M.build, M.at, M.T
  local cases, unpack = {}, table.unpack

  -- ---- batches of matrices as nested tables ----
  local function matrix_at(a, i, vector) -- matrix number i (from 0); a vector as a column
    local m, n = a.shape[#a.shape - 1], a.shape[#a.shape]
    if vector then m, n = a.shape[#a.shape], 1 end
    local out = {}
    for r = 1, m do out[r] = { unpack(a, i * m * n + (r - 1) * n + 1, i * m * n + r * n) } end
    return out
  end
  local function flat(t, into)
    if type(t) ~= "table" then
      into[#into + 1] = t
    else
      for _, v in ipairs(t) do flat(v, into) end
    end
  end
  -- f(matrix) -> matrix, vector or number; `tail` the shape of that
  local function each(a, tail, f)
    local out, count = { shape = { unpack(a.shape, 1, #a.shape - 2) } }, 1
    for _, s in ipairs(out.shape) do count = count * s end
    table.move(tail, 1, #tail, #out.shape + 1, out.shape)
    for i = 0, count - 1 do flat(f(matrix_at(a, i)), out) end
    return out
  end
  local function sizes(a) return a.shape[#a.shape - 1], a.shape[#a.shape] end
  local function table_of(m, n, f)
    local out = {}
    for i = 1, m do
      out[i] = {}
      for j = 1, n do out[i][j] = f(i, j) end
    end
    return out
  end
  local function product(a, b)
    return table_of(#a, b[1] and #b[1] or 0, function(i, j)
      local s = 0
      for k = 1, #b do s = s + a[i][k] * b[k][j] end
      return s
    end)
  end
  local function turned(a)
    return table_of(a[1] and #a[1] or 0, #a, function(i, j) return a[j][i] end)
  end
  local function unit(n)
    return table_of(n, n, function(i, j) return i == j and 1 or 0 end)
  end
  local function symmetric(a)
    return table_of(#a, #a, function(i, j) return (a[i][j] + a[j][i]) / 2 end)
  end

  -- ---- references of one matrix ----
  local function eliminate(a, b) -- x with a x = b
    local n, m = #a, {}
    for i = 1, n do m[i] = { unpack(a[i]) } table.move(b[i], 1, #b[i], n + 1, m[i]) end
    for c = 1, n do
      local best = c
      for r = c, n do
        if math.abs(m[r][c]) > math.abs(m[best][c]) then best = r end
      end
      if best ~= c then m[c], m[best] = m[best], m[c] end
      for r = 1, n do
        local f = r ~= c and m[r][c] / m[c][c] or 0
        for k = c, #m[r] do m[r][k] = m[r][k] - f * m[c][k] end
      end
    end
    return table_of(n, b[1] and #b[1] or 0, function(i, j) return m[i][n + j] / m[i][i] end)
  end
  local function inverse(a) return eliminate(a, unit(#a)) end
  -- without row i and column j
  local function minor(a, i, j)
    return table_of(#a - 1, #a - 1, function(r, c) return a[r < i and r or r + 1][c < j and c or c + 1] end)
  end
  local determinant
  function determinant(a) -- by minors: no division
    local det = #a == 0 and 1 or 0
    for j = 1, #a do det = det - (-1) ^ j * a[1][j] * determinant(minor(a, 1, j)) end
    return det
  end
  local function cholesky(a)
    local l = table_of(#a, #a, function() return 0 end)
    for j = 1, #a do
      for i = j, #a do
        local s = a[i][j]
        for k = 1, j - 1 do s = s - l[i][k] * l[j][k] end
        l[i][j] = i == j and math.sqrt(s) or s / l[j][j]
      end
    end
    return l
  end
  local function householder(a) -- q (m, m), r (m, n), with LAPACK's signs; a last row has nothing to mirror
    local m, n, q, r = #a, a[1] and #a[1] or 0, unit(#a), a
    for k = 1, math.min(m - 1, n) do
      local norm, v = 0, {}
      for i = k, m do norm = norm + r[i][k] ^ 2 end
      local beta = r[k][k] >= 0 and -math.sqrt(norm) or math.sqrt(norm)
      for i = 1, m do v[i] = { i < k and 0 or i == k and r[k][k] - beta or r[i][k] } end
      local vv = product(turned(v), v)[1][1]
      local h = table_of(m, m, function(i, j) return (i == j and 1 or 0) - 2 * v[i][1] * v[j][1] / vv end)
      q, r = product(q, h), product(h, r)
    end
    return q, r
  end
  local function eigenvalues(a) -- ascending, by Jacobi's rotations
    local n = #a
    for _ = 1, 30 do
      for p = 1, n do
        for q = p + 1, n do
          if math.abs(a[p][q]) > 1e-300 then
            local angle = 0.5 * math.atan(2 * a[p][q], a[q][q] - a[p][p])
            local c, s = math.cos(angle), math.sin(angle)
            local j = unit(n)
            j[p][p], j[p][q], j[q][p], j[q][q] = c, s, -s, c
            a = product(product(turned(j), a), j)
          end
        end
      end
    end
    local w = {}
    for i = 1, n do w[i] = a[i][i] end
    table.sort(w)
    return w
  end
  local function singular_values(a) -- descending
    local w, out = eigenvalues(#a < #a[1] and product(a, turned(a)) or product(turned(a), a)), {}
    for i = #w, 1, -1 do out[#out + 1] = math.sqrt(w[i]) end
    return out
  end
  local function pinv(a) -- of full rank
    local t = turned(a)
    if #a >= #a[1] then return (eliminate(product(t, a), t)) end
    return turned((eliminate(product(a, t), a)))
  end

  -- ---- inputs: far from singular; the diagonal keeps them so, and singular values apart ----
  local function full_rank(shape)
    local m, n, k = shape[#shape - 1], shape[#shape], 0
    local values = build(shape, function(idx)
      k = k + 1
      local i, j = idx[#idx - 1], idx[#idx]
      return math.sin(k * 1.7 + m) + (i == j and 1.6 + 0.9 * i or 0) * (n > 0 and 1 or 0)
    end)
    return T(shape, { values = values, leaf = true })
  end
  local function positive(shape)
    local n, k, flatten = shape[#shape], 0, {}
    local count = 1
    for d = 1, #shape - 2 do count = count * shape[d] end
    for _ = 1, count do
      local a = table_of(n, n, function(i, j)
        k = k + 1
        return math.sin(k * 2.3) + (i == j and 1 + i or 0)
      end)
      flat(product(a, turned(a)), flatten)
    end
    return T(shape, { values = flatten, leaf = true })
  end

  -- ---- square matrices ----
  local square = { T { 2, 3 }, "the matrix must be square, the shape is (2x3)" }
  local flat_input = { T { 3 }, "a matrix (at least 2 dims) is needed, the shape is (3)" }
  local singular = { T({ 2, 2 }, { values = { 1, 2, 2, 4 } }), "the matrix is singular: pivot 2" }
  local shapes = { { 2, 3, 3 }, { 1, 4, 4 }, { 1, 1, 1 }, { 2, 1, 2, 2 }, { 0, 2, 2 }, { 2, 0, 0 } }
  local function of_square(name, input, tail, f, o)
    cases[name] = { bad = { square, flat_input, o.bad } }
    for _, s in ipairs(shapes) do
      local n = s[#s]
      cases[name][#cases[name] + 1] = { input(s), ref = function(a) return each(a, tail(n), f) end, tol = 2e-5, gradtol = 5e-3, result = o.result }
    end
  end
  local function as_matrix(n) return { n, n } end
  local function as_vector(n) return { n } end
  local function as_number() return {} end
  of_square("inv", full_rank, as_matrix, inverse, { bad = singular })
  of_square("det", full_rank, as_number, determinant, {})
  local function cofactors(m)
    return table_of(#m, #m, function(i, j) return (-1) ^ (i + j) * determinant(minor(m, i, j)) end)
  end
  of_square("cofactor", full_rank, as_matrix, cofactors, {})
  -- ranks 2, 1 and 0 of 3, and equal singular values, which the second gradient of cofactor (the third of det) can't have
  local deficient = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, -1, -2, -4, 2, 0.5, 1, -0.5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -2, 0, 2, 0, 0, 0, 0, 2 }
  local function singular_case(name, n, f, o)
    o[1], o.tol, o.gradtol = T({ n, 3, 3 }, { values = { unpack(deficient, 1, 9 * n) }, leaf = true }), 1e-5, 5e-3
    function o.ref(a) return each(a, name == "det" and {} or { 3, 3 }, f) end
    table.insert(cases[name], o)
  end
  singular_case("det", 4, determinant, { nothird = true })
  singular_case("cofactor", 4, cofactors, { nograd = true })
  singular_case("cofactor", 1, cofactors, {})
  of_square("slogdet", full_rank, as_number, function(a) return math.log(math.abs(determinant(a))) end, { result = 2 })
  table.insert(cases.slogdet, { full_rank { 2, 3, 3 }, nograd = true, tol = 0, ref = function(a)
    return each(a, {}, function(m) return determinant(m) > 0 and 1 or -1 end)
  end })
  of_square("cholesky", positive, as_matrix, function(a) return cholesky(symmetric(a)) end,
    { bad = { T({ 2, 2 }, { values = { 1, 2, 2, 1 } }), "the matrix is not positive definite: its leading minor of order 2" } })
  of_square("eigh", positive, as_vector, function(a) return eigenvalues(symmetric(a)) end,
    { bad = { T({ 1, 1 }, { values = { 0 / 0 } }), "the matrix holds NaN or Inf" } })

  -- ---- qr, svd, pinv: `expanded` would repeat rows of a matrix, so there is always a batch ----
  local sides = { { 2, 4, 2 }, { 2, 2, 4 }, { 1, 3, 3 }, { 1, 1, 3 }, { 1, 3, 1 }, { 2, 0, 3 }, { 2, 3, 0 } }
  cases.qr = { bad = { flat_input, { T { 3, 2 }, 1, "argument 'complete' must be true or false" } } }
  cases.svd = { bad = { flat_input, { T({ 1, 2, 1 }, { values = { 1, 0 / 0 } }), "the matrix holds NaN or Inf" } } }
  cases.pinv = { bad = { flat_input, { T({ 1, 1 }, { values = { 1 / 0 } }), "the matrix holds NaN or Inf" } } }
  for _, s in ipairs(sides) do
    local function b(a) return math.min(sizes(a)) end
    local function q(a)
      local m = sizes(a)
      return each(a, { m, b(a) }, function(x)
        local full = householder(x)
        return table_of(m, b(a), function(i, j) return full[i][j] end)
      end)
    end
    local function r(a)
      local _, n = sizes(a)
      return each(a, { b(a), n }, function(x) return { unpack(select(2, householder(x)), 1, b(a)) } end)
    end
    table.insert(cases.qr, { full_rank(s), ref = q, tol = 2e-5, gradtol = 5e-3 })
    table.insert(cases.qr, { full_rank(s), ref = r, tol = 2e-5, gradtol = 5e-3, result = 2 })
    table.insert(cases.svd, { full_rank(s), false, tol = 2e-5, gradtol = 5e-3, result = 2, ref = function(a)
      return each(a, { b(a) }, b(a) > 0 and singular_values or function() return {} end)
    end })
    table.insert(cases.pinv, { full_rank(s), tol = 2e-5, gradtol = 5e-3, ref = function(a)
      local m, n = sizes(a)
      return each(a, { n, m }, b(a) > 0 and pinv or function() return {} end)
    end })
  end
  table.insert(cases.qr, { full_rank { 1, 4, 2 }, true, nograd = true, tol = 2e-5, ref = function(a)
    return each(a, { 4, 4 }, function(x) return (householder(x)) end)
  end })

  -- ---- solve, lstsq: leading dims broadcast, b may be a vector ----
  local function joint(p, q) -- leading dims of both
    local out = {}
    for d = 1, math.max(#p, #q) do
      local x, y = p[#p - d + 1] or 1, q[#q - d + 1] or 1
      table.insert(out, 1, x == 1 and y or x)
    end
    return out
  end
  local function two_sides(f)
    return function(a, b)
      local vector = #b.shape == 1
      local m, n = sizes(a)
      local k = vector and 1 or b.shape[#b.shape]
      local lead = joint({ unpack(a.shape, 1, #a.shape - 2) }, vector and {} or { unpack(b.shape, 1, #b.shape - 2) })
      local out = { shape = { unpack(lead) } }
      build(lead, function(idx)
        local function part(x, rows, cols, plain)
          return table_of(rows, cols, function(i, j)
            local at_ = { unpack(idx) }
            if plain then return x[i] end
            at_[#at_ + 1], at_[#at_ + 2] = i, j
            return at(x, at_)
          end)
        end
        flat(f(part(a, m, n), part(b, m, k, vector)), out)
        return 0
      end)
      out.shape[#out.shape + 1] = n
      if not vector then out.shape[#out.shape + 1] = k end
      return out
    end
  end
  local function rows_differ() return { T { 2, 2 }, T { 3, 1 }, "a (2x2) has 2 rows, b (3x1) must have as many" } end
  local lead_differ = { T { 2, 3, 3 }, T { 4, 3, 1 }, "leading dims do not broadcast: (2x3x3) and (4x3x1)" }
  local function solution(s, t, f) return { full_rank(s), T(t), ref = two_sides(f), tol = 3e-5, gradtol = 5e-3 } end
  local function solved(a, b) return (eliminate(a, b)) end
  cases.solve = { solution({ 2, 3, 3 }, { 2, 3, 2 }, solved), solution({ 1, 2, 2 }, { 2 }, solved), solution({ 2, 1, 2, 2 }, { 3, 2, 1 }, solved),
    solution({ 1, 1, 1 }, { 1, 1 }, solved), solution({ 2, 2, 2 }, { 2, 0 }, solved), solution({ 0, 2, 2 }, { 2, 1 }, solved),
    bad = { { T { 2, 3 }, T { 2, 2 }, square[2] }, { T { 3 }, T { 3 }, flat_input[2] }, rows_differ(), lead_differ,
      { T({ 1, 1 }, { values = { 0 } }), T { 1, 1 }, "the matrix is singular: pivot 1" } } }
  local function fitted(a, b) return product(pinv(a), b) end
  cases.lstsq = { solution({ 2, 4, 2 }, { 2, 4, 2 }, fitted), solution({ 2, 2, 3 }, { 2, 1 }, fitted), solution({ 1, 3, 2 }, { 3 }, fitted),
    solution({ 1, 2, 2 }, { 2, 2, 1 }, fitted), solution({ 0, 3, 2 }, { 3, 1 }, fitted),
    bad = { { T { 3 }, T { 3 }, flat_input[2] }, rows_differ(), lead_differ,
      { T({ 1, 1 }, { values = { 1 } }), T({ 1 }, { values = { 0 / 0 } }), "the matrix holds NaN or Inf" } } }

  -- ---- products with names of their own ----
  cases.dot = { bad = { { T { 2 }, T { 3 }, "the vectors have 2 and 3 elements" }, { T { 2, 2 }, T { 2 }, "two vectors are needed" },
    { T {}, T { 1 }, "two vectors are needed" }, { T { 2 }, 3, "argument 'b' must be a tensor" } } }
  for _, n in ipairs { 5, 1, 0, 300 } do
    table.insert(cases.dot, { T { n }, T { n }, tol = 1e-5, nograd = n > 100, ref = function(a, b)
      local s = 0
      for i = 1, n do s = s + a[i] * b[i] end
      return { shape = {}, s }
    end })
  end
  local function outer(a, b)
    return build({ #a, #b }, function(idx) return a[idx[1]] * b[idx[2]] end)
  end
  cases.outer = { { T { 3 }, T { 4 }, ref = outer }, { T { 1 }, T { 2 }, ref = outer }, { T { 0 }, T { 2 }, ref = outer },
    { T { 70 }, T { 90 }, ref = outer, nograd = true },
    bad = { { T { 2, 2 }, T { 2 }, "two vectors are needed" }, { T { 2 }, T {}, "two vectors are needed" } } }
  local function batched(a, b)
    return build({ a.shape[1], a.shape[2], b.shape[3] }, function(idx)
      local s = 0
      for k = 1, a.shape[3] do s = s + at(a, { idx[1], idx[2], k }) * at(b, { idx[1], k, idx[3] }) end
      return s
    end)
  end
  cases.bmm = { { T { 2, 3, 4 }, T { 2, 4, 2 }, ref = batched }, { T { 1, 1, 1 }, T { 1, 1, 1 }, ref = batched },
    { T { 2, 0, 3 }, T { 2, 3, 2 }, ref = batched },
    { T { 2, 3, 0 }, T { 2, 0, 2 }, ref = batched }, { T { 3, 20, 30 }, T { 3, 30, 17 }, ref = batched, nograd = true, tol = 1e-5 },
    bad = { { T { 2, 3, 4 }, T { 3, 4, 2 }, "(B, M, K) x (B, K, N) is needed, the shapes are (2x3x4) and (3x4x2)" },
      { T { 2, 3, 4 }, T { 4, 2 }, "(B, M, K) x (B, K, N) is needed" }, { T { 2, 3, 4 }, T { 2, 3, 4 }, "(B, M, K) x (B, K, N) is needed" } } }
  local function addmm(x, a, b, beta, alpha)
    return build({ a.shape[1], b.shape[2] }, function(idx)
      local s = 0
      for k = 1, a.shape[2] do s = s + at(a, { idx[1], k }) * at(b, { k, idx[2] }) end
      return (alpha or 1) * s + (beta == 0 and 0 or (beta or 1) * at(x, idx))
    end)
  end
  cases.addmm = { { T { 2, 4 }, T { 2, 3 }, T { 3, 4 }, ref = addmm }, { T { 4 }, T { 2, 3 }, T { 3, 4 }, 0.5, -2, ref = addmm },
    { T { 2, 1 }, T { 2, 3 }, T { 3, 4 }, 2, ref = addmm }, { T { 1, 1 }, T { 1, 1 }, T { 1, 1 }, ref = addmm },
    { T { 4 }, T { 0, 3 }, T { 3, 4 }, ref = addmm }, { T({ 2, 2 }, { nograd = true }), T { 2, 3 }, T { 3, 2 }, 0, ref = addmm },
    bad = { { T { 5 }, T { 2, 3 }, T { 3, 4 }, "x (5) does not broadcast to the product, 2x4" },
      { T { 1, 1, 1 }, T { 2, 3 }, T { 3, 4 }, "x has 3 dims" },
      { T { 2 }, T { 3 }, T { 3, 4 }, "a and b must be matrices, they have 1 and 2 dims" } } }
  local function cdist(a, b, p)
    p = p or 2
    local m, n, k = a.shape[#a.shape - 1], b.shape[#b.shape - 1], a.shape[#a.shape]
    local shape = joint({ unpack(a.shape, 1, #a.shape - 2) }, { unpack(b.shape, 1, #b.shape - 2) })
    local nb = #shape
    shape[nb + 1], shape[nb + 2] = m, n
    return build(shape, function(idx)
      local s, i, j = 0, { unpack(idx) }, { unpack(idx) }
      j[nb + 1] = idx[nb + 2]
      for c = 1, k do
        i[nb + 2], j[nb + 2] = c, c
        local d = math.abs(at(a, i) - at(b, j))
        if p == math.huge then s = math.max(s, d) elseif p == 0 then s = s + (d == 0 and 0 or 1) else s = s + d ^ p end
      end
      return (p == 0 or p == math.huge) and s or s ^ (1 / p)
    end)
  end
  local function distances(s, t, p, o)
    local c = { T(s, { apart = 0 }), T(t, { apart = 1 }), p, ref = cdist, tol = 1e-5, gradtol = 5e-3 }
    for k, v in pairs(o or {}) do c[k] = v end
    return c
  end
  cases.cdist = { distances({ 3, 4 }, { 2, 4 }), distances({ 2, 3, 2 }, { 2, 2 }, 1), distances({ 2, 1, 2, 3 }, { 2, 2, 3 }, 3),
    { T({ 2, 2 }, { values = { 1, 2, -1, 0.5 }, leaf = true }), T({ 2, 2 }, { values = { 0.2, 3.5, 2, 2 }, leaf = true }), math.huge, ref = cdist },
    distances({ 3, 2 }, { 2, 2 }, 0, { nograd = true }), distances({ 1, 1 }, { 1, 1 }),
    distances({ 0, 3 }, { 2, 3 }), distances({ 30, 40 }, { 20, 40 }, 2, { nograd = true }),
    bad = { { T { 2, 3 }, T { 2, 4 }, "rows of one length are needed, the shapes are (2x3) and (2x4)" },
      { T { 3 }, T { 2, 3 }, "rows of one length" },
      { T { 2, 3 }, T { 2, 3 }, -1, "p must not be negative, it is -1" }, { T { 2, 3 }, T { 2, 3 }, 0 / 0, "p must not be negative" } } }
  return cases
end
