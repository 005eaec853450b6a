-- Linear algebra: values against plain Lua in doubles (elimination, and the equations that define each decomposition), gradients and gradients of
-- gradients against central differences, messages for matrices that have no result, threads and batches.
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local close, message = support.close, support.message

-- ---- plain Lua in doubles ----
local function product(a, b)
  return support.matrix(#a, #b[1], function(i, j)
    local sum = 0
    for k = 1, #b do sum = sum + a[i][k] * b[k][j] end
    return sum
  end)
end
local function turned(a)
  return support.matrix(#a[1], #a, function(i, j) return a[j][i] end)
end
local function unit(n)
  return support.matrix(n, n, function(i, j) return i == j and 1 or 0 end)
end
local function part(a, rows, cols)
  return support.matrix(rows, cols, function(i, j) return a[i][j] end)
end

-- x with a x = b, and the determinant of a, by elimination with row exchanges
local function eliminate(a, b)
  local n, det, m = #a, 1, {}
  for i = 1, n do
    m[i] = { table.unpack(a[i]) }
    for _, v in ipairs(b[i]) do m[i][#m[i] + 1] = v end
  end
  for c = 1, n do
    local best = c
    for r = c, n do
      if math.abs(m[r][c]) > math.abs(m[best][c]) then best = r end
    end
    if best ~= c then m[c], m[best], det = m[best], m[c], -det end
    det = det * m[c][c]
    for r = 1, n do
      local f = r ~= c and m[r][c] / m[c][c] or 0
      for k = c, #m[r] do m[r][k] = m[r][k] - f * m[c][k] end
    end
  end
  local x = support.matrix(n, #b[1], function(i, j) return m[i][n + j] / m[i][i] end)
  return x, det
end

-- ---- inputs: diagonals that keep them far from singular, apart from one another ----
local function matrix(rows, cols, seed, diagonal)
  local noise = support.noise(seed)
  return support.matrix(rows, cols, function(i, j) return noise() + (i == j and (diagonal or 1.5) + 0.7 * i or 0) end)
end
local function positive(n, seed)
  local a = matrix(n, n, seed, 0.5)
  local s = product(a, turned(a))
  for i = 1, n do s[i][i] = s[i][i] + i end
  return s
end
local shapes = { { 3, 3 }, { 5, 3 }, { 3, 5 }, { 1, 1 }, { 1, 4 }, { 4, 1 } }

local function orthonormal(q, what)
  close(unit(#q[1]), product(turned(q), q), 1e-5, what)
end
local function scaled(u, s) -- columns by s
  return support.matrix(#u, #s, function(i, j) return u[i][j] * s[j] end)
end

describe("solutions and determinants", function()
  for n = 1, 6 do
    it("of a " .. n .. "x" .. n .. " matrix", function()
      local a, b = matrix(n, n, n), matrix(n, 2, 7)
      local x, det = eliminate(a, b)
      close(x, nn.solve(nn.tensor(a), nn.tensor(b)), 1e-5)
      close((eliminate(a, unit(n))), nn.inv(nn.tensor(a)), 1e-5)
      close(det, nn.det(nn.tensor(a)):item(), 1e-5)
      local sign, size = nn.slogdet(nn.tensor(a))
      close(math.log(math.abs(det)), size:item(), 1e-5)
      assert.equal(det > 0 and 1 or -1, sign:item())
    end)
  end

  it("of a vector, of batches, and with leading dims that broadcast", function()
    local a, c, b = matrix(3, 3, 1), matrix(3, 3, 2), matrix(3, 2, 3)
    local v = { 1, -2, 0.5 }
    local xv = eliminate(a, { { 1 }, { -2 }, { 0.5 } })
    local x = nn.solve(nn.tensor(a), nn.tensor(v))
    assert.same({ 3 }, x:shape())
    close(xv, x)
    x = nn.solve(nn.tensor { a, c }, nn.tensor(b))
    assert.same({ 2, 3, 2 }, x:shape())
    close({ eliminate(a, b), (eliminate(c, b)) }, x)
    x = nn.solve(nn.tensor(a), nn.tensor { { b }, { b } })
    assert.same({ 2, 1, 3, 2 }, x:shape())
    close({ { (eliminate(a, b)) }, { (eliminate(a, b)) } }, x)
    close({ select(2, eliminate(a, unit(3))), select(2, eliminate(c, unit(3))) }, nn.det(nn.tensor { a, c }))
    close({ (eliminate(turned(a), unit(3))) }, nn.tensor { a }:transpose():inv())
  end)

  it("a singular matrix has determinant 0 and no inverse", function()
    local s = nn.tensor { { 1, 2 }, { 2, 4 } }
    assert.equal(0, s:det():item())
    local sign, size = s:slogdet()
    assert.equal(0, sign:item())
    assert.equal(-math.huge, size:item())
    assert.equal("inv: the matrix is singular: pivot 2 of its LU decomposition is exactly zero", message(function() return s:inv():totable() end))
    assert.equal("solve: matrix 2 of 3 is singular: pivot 1 of its LU decomposition is exactly zero", message(function()
      return nn.tensor { { { 1, 2 }, { 0, 1 } }, { { 0, 0 }, { 0, 0 } }, { { 0, 0 }, { 0, 0 } } }:solve(nn.ones(2, 1)):totable()
    end))
    close({ { 1, -2 }, { 0, 1 } }, nn.tensor { { 1, 2 }, { 0, 1 } }:inv()) -- and the next call works
  end)
end)

describe("cholesky", function()
  it("gives the lower triangle whose square the matrix is", function()
    for n = 1, 6 do
      local a = positive(n, n)
      local l = nn.cholesky(nn.tensor(a)):totable()
      close(a, product(l, turned(l)), 1e-5)
      for i = 1, n do
        assert.is_true(l[i][i] > 0)
        for j = i + 1, n do assert.equal(0, l[i][j]) end
      end
    end
  end)
  it("reads the lower triangle only", function()
    close({ { 2, 0 }, { 1, 3 } }, nn.tensor { { 4, 99 }, { 2, 10 } }:cholesky())
  end)
  it("names the leading minor that is not positive", function()
    assert.equal("cholesky: the matrix is not positive definite: its leading minor of order 2 is not positive",
      message(function() return nn.tensor { { 1, 2 }, { 2, 1 } }:cholesky():totable() end))
    assert.match("its leading minor of order 1 is not positive", message(function() return nn.tensor { { 0 / 0 } }:cholesky():totable() end))
  end)
end)

describe("qr, svd, eigh, pinv and lstsq", function()
  for _, shape in ipairs(shapes) do
    local m, n = table.unpack(shape)
    local a, b = matrix(m, n, m + 10 * n), math.min(m, n)
    it(("of a %dx%d matrix"):format(m, n), function()
      for _, complete in ipairs { false, true } do
        local q, r = nn.qr(nn.tensor(a), complete)
        assert.same({ m, complete and m or b }, q:shape())
        assert.same({ complete and m or b, n }, r:shape())
        q, r = q:totable(), r:totable()
        orthonormal(q, "q")
        close(a, product(q, r), 1e-5)
        for i = 2, #r do
          for j = 1, math.min(i - 1, n) do assert.equal(0, r[i][j]) end
        end
      end
      for _, full in ipairs { false, true } do
        local u, s, vh = nn.svd(nn.tensor(a), full)
        assert.same({ m, full and m or b }, u:shape())
        assert.same({ full and n or b, n }, vh:shape())
        u, s, vh = u:totable(), s:totable(), vh:totable()
        orthonormal(u, "u")
        orthonormal(turned(vh), "v")
        close(a, product(scaled(part(u, m, b), s), part(vh, b, n)), 1e-5)
        for i = 1, b do assert.is_true(s[i] >= (s[i + 1] or 0)) end
      end
      -- the four conditions of Penrose
      local p = nn.pinv(nn.tensor(a)):totable()
      local ap, pa = product(a, p), product(p, a)
      close(a, product(ap, a), 1e-5)
      close(p, product(pa, p), 1e-5)
      close(turned(ap), ap, 1e-5)
      close(turned(pa), pa, 1e-5)
      local right = matrix(m, 2, 5)
      local x = nn.lstsq(nn.tensor(a), nn.tensor(right))
      assert.same({ n, 2 }, x:shape())
      close(product(p, right), x, 1e-5)
      close(product(p, turned { turned(right)[1] }), nn.lstsq(nn.tensor(a), nn.tensor(turned(right)[1])), 1e-5)
    end)
  end

  it("eigenvalues and eigenvectors", function()
    for n = 1, 6 do
      local a = positive(n, n + 3)
      local w, v = nn.eigh(nn.tensor(a))
      w, v = w:totable(), v:totable()
      orthonormal(v, "v")
      close(product(a, v), scaled(v, w), 2e-5)
      for i = 2, n do assert.is_true(w[i] >= w[i - 1]) end
    end
    close({ 1, 3 }, (nn.tensor { { 2, 99 }, { 1, 2 } }:eigh()))
  end)

  it("a matrix of rank 1 has its shortest least-squares solution", function()
    close({ 0.3, 0.6 }, nn.lstsq(nn.tensor { { 1, 2 }, { 2, 4 } }, nn.tensor { 1.5, 3 }))
    close({ { 0.04, 0.08 }, { 0.08, 0.16 } }, nn.pinv(nn.tensor { { 1, 2 }, { 2, 4 } }))
    close({ 1, 0 }, nn.lstsq(nn.tensor { { 1, 0 }, { 0, 0.01 } }, nn.tensor { 1, 1 }, 0.1))
  end)

  it("NaN is refused where LAPACK could hang", function()
    local bad = nn.tensor { { 1, 2 }, { 0 / 0, 1 } }
    for _, name in ipairs { "svd", "eigh", "pinv" } do
      assert.match("^" .. name .. ": the matrix holds NaN or Inf", message(function() return (nn[name](bad)):totable() end))
    end
  end)

  it("matrices without elements", function()
    assert.equal(1, nn.zeros(0, 0):det():item())
    assert.same({ 0, 0 }, nn.zeros(0, 0):inv():shape())
    assert.same({ 0, 3, 3 }, nn.zeros(0, 3, 3):inv():shape())
    assert.same({}, nn.zeros(0, 3, 3):inv():totable())
    close(unit(3), nn.svd(nn.zeros(3, 0)):totable())
    close(unit(3), (nn.qr(nn.zeros(3, 0), true)):totable())
    assert.same({ { 0 }, { 0 } }, nn.lstsq(nn.zeros(0, 2), nn.zeros(0, 1)):totable())
    assert.same({ 0 }, nn.eigh(nn.zeros(0, 0)):shape())
  end)

  it("any number of threads gives the same bits", function()
    local before, results = nn.threads(), {}
    nn.seed(5)
    local a = nn.randn(7, 20, 20) + nn.ones(20)
    for _, n in ipairs { 1, 2, 3 } do
      nn.threads(n)
      local u, s, vh = a:svd()
      local q, r = a:qr()
      local text = {}
      for i, t in ipairs { a:inv(), u, s, vh, q, r, a:det(), (a:matmul(a:transpose())):eigh(), a:pinv() } do text[i] = t:tostring_bytes() end
      results[#results + 1] = table.concat(text)
    end
    nn.threads(before)
    assert.is_true(results[1] == results[2] and results[1] == results[3])
  end)
end)

describe("products with names of their own", function()
  local a, b = matrix(2, 3, 1), matrix(3, 4, 2)
  it("dot, outer, bmm, addmm", function()
    assert.equal(1 * 4 - 2 * 5 + 3 * 6, nn.dot(nn.tensor { 1, -2, 3 }, nn.tensor { 4, 5, 6 }):item())
    assert.same({ { 3, 4 }, { 6, 8 }, { 9, 12 } }, nn.outer(nn.tensor { 1.0, 2, 3 }, nn.tensor { 3.0, 4 }):totable())
    close({ product(a, b), product(a, b) }, nn.bmm(nn.tensor { a, a }, nn.tensor { b, b }))
    local ab, x = product(a, b), matrix(2, 4, 9)
    local want = support.matrix(2, 4, function(i, j) return 0.5 * x[i][j] + 2 * ab[i][j] end)
    close(want, nn.addmm(nn.tensor(x), nn.tensor(a), nn.tensor(b), 0.5, 2))
    close(want, nn.addmm(nn.tensor(x), nn.tensor(a), nn.tensor(b), { alpha = 2, beta = 0.5 }))
    close(ab, nn.addmm(nn.full({ 4 }, 0 / 0), nn.tensor(a), nn.tensor(b), { beta = 0 }))
    assert.match("dot: the vectors have 2 and 3 elements", message(nn.dot, nn.zeros(2), nn.zeros(3)))
    assert.match("outer: two vectors are needed, the shapes are %(2x2%) and %(3%)", message(nn.outer, nn.zeros(2, 2), nn.zeros(3)))
    assert.match("bmm: .*the shapes are %(2x2x3%) and %(3x3x4%)", message(nn.bmm, nn.zeros(2, 2, 3), nn.zeros(3, 3, 4)))
    assert.match("addmm: x has 3 dims", message(nn.addmm, nn.zeros(1, 1, 1), nn.zeros(2, 3), nn.zeros(3, 4)))
    assert.match("addmm: x %(5%) does not broadcast to the product, 2x4", message(nn.addmm, nn.zeros(5), nn.zeros(2, 3), nn.zeros(3, 4)))
  end)

  it("cdist, for each norm", function()
    local x, y = matrix(3, 4, 1, 0), matrix(2, 4, 2, 0)
    y[1] = { table.unpack(x[1]) } -- a distance of 0
    for _, p in ipairs { 0, 1, 1.5, 2, 3, math.huge } do
      local want = support.matrix(3, 2, function(i, j)
        local sum = 0
        for k = 1, 4 do
          local d = math.abs(x[i][k] - y[j][k])
          if p == 0 then sum = sum + (d ~= 0 and 1 or 0)
          elseif p == math.huge then sum = math.max(sum, d)
          else sum = sum + d ^ p end
        end
        return (p == 0 or p == math.huge) and sum or sum ^ (1 / p)
      end)
      close(want, nn.cdist(nn.tensor(x), nn.tensor(y), p), 1e-5, "p = " .. p)
      if p > 0 then
        local leaf = nn.tensor(x, { requires_grad = true })
        nn.cdist(leaf, nn.tensor(y), p):sum():backward()
        for _, v in ipairs(support.flat(leaf:grad():totable())) do assert.is_true(v == v and math.abs(v) < 10) end
      end
    end
    assert.match("cdist: rows of one length", message(nn.cdist, nn.zeros(2, 3), nn.zeros(2, 4)))
    assert.match("cdist: p must not be negative, it is %-1", message(nn.cdist, nn.zeros(2, 3), nn.zeros(2, 3), -1))
  end)
end)

-- ---- gradients ----
local function leaf(x) return x:requires_grad() and x or x:detach():requires_grad(true) end
-- the gradient of fn under a fixed cotangent, as a function that can be differentiated again
local function slope(fn, which)
  return function(...)
    local xs = table.pack(...)
    for i = 1, xs.n do xs[i] = leaf(xs[i]) end
    local y = fn(table.unpack(xs))
    local noise, r = support.noise(9), {}
    for i = 1, y:numel() do r[i] = noise() end
    local g = table.pack(nn.grad(y, xs, { cotangents = nn.tensor(r):reshape(y:shape()), create_graph = true }))
    return g[which or 1]
  end
end
local function pick(name, k, ...)
  local more = table.pack(...)
  return function(x) return (select(k, nn[name](x, table.unpack(more)))) end
end
local function spd(x) return x:matmul(x:transpose()) end

local square, tall, wide = nn.tensor(matrix(3, 3, 4)), nn.tensor(matrix(4, 2, 5)), nn.tensor(matrix(2, 4, 6))
local batch = nn.tensor { matrix(2, 2, 4), matrix(2, 2, 5) }
local column, many = nn.tensor { 0.4, -1.2, 0.9 }, nn.tensor(matrix(3, 2, 8, 0))
local checks = {
  { "dot", nn.dot, { column, nn.tensor { 1.0, 0.3, -0.7 } } },
  { "outer", nn.outer, { column, nn.tensor { 1.0, 0.3 } } },
  { "bmm", nn.bmm, { batch, batch } },
  { "addmm", function(x, a, b) return nn.addmm(x * x, a, b, 0.5, 2) end, { nn.tensor { 1.0, 2, 3, 4 }, tall, wide } },
  { "cdist", nn.cdist, { many, nn.tensor(matrix(2, 2, 3, 0)) } },
  { "cdist p = 3", function(a, b) return nn.cdist(a, b, 3) end, { many, nn.tensor(matrix(2, 2, 3, 0)) } },
  { "inv", nn.inv, { square } },
  { "inv of a batch", nn.inv, { batch } },
  { "solve", nn.solve, { square, many } },
  { "solve for a vector", nn.solve, { square, column } },
  { "solve, broadcast", nn.solve, { batch, nn.tensor { 0.5, -1.0 } } },
  { "det", function(x) return nn.det(x * 0.5) end, { square } },
  { "det of a batch", nn.det, { batch } },
  { "slogdet", pick("slogdet", 2), { square } },
  { "cholesky", function(x) return nn.cholesky(spd(x)) end, { square } },
  { "q of a square matrix", pick("qr", 1), { square } },
  { "r of a square matrix", pick("qr", 2), { square } },
  { "q of a tall matrix", pick("qr", 1), { tall } },
  { "r of a tall matrix", pick("qr", 2), { tall } },
  { "q of a wide matrix", pick("qr", 1), { wide } },
  { "r of a wide matrix", pick("qr", 2), { wide } },
  { "singular values", pick("svd", 2, false), { tall } },
  { "u of a tall matrix", pick("svd", 1, false), { tall } },
  { "vh of a tall matrix", pick("svd", 3, false), { tall } },
  { "u of a wide matrix", pick("svd", 1, false), { wide } },
  { "vh of a wide matrix", pick("svd", 3, false), { wide } },
  { "u of a batch", pick("svd", 1), { batch } },
  { "eigenvalues", function(x) return (nn.eigh(spd(x))) end, { square } },
  { "eigenvectors", function(x) return (select(2, nn.eigh(spd(x)))) end, { square } },
  { "pinv of a tall matrix", nn.pinv, { tall } },
  { "pinv of a wide matrix", nn.pinv, { wide } },
  { "lstsq, tall", nn.lstsq, { tall, nn.tensor(matrix(4, 2, 3, 0)) } },
  { "lstsq, wide, for a vector", nn.lstsq, { wide, nn.tensor { 0.5, -1.0 } } },
}
describe("gradient of", function()
  for _, case in ipairs(checks) do
    local name, fn, inputs = table.unpack(case)
    it(name, function() assert(nn.gradcheck(fn, inputs)) end)
    it(name .. ", twice", function()
      for i = 1, #inputs do assert(nn.gradcheck(slope(fn, i), inputs, { atol = 5e-3 })) end
    end)
  end

  it("two results at once", function()
    assert(nn.gradcheck(function(x)
      local u, s, vh = nn.svd(x, false)
      return (u * s * s):matmul(vh)
    end, { tall }))
    assert(nn.gradcheck(function(x)
      local q, r = nn.qr(x)
      return q:matmul(r):matmul(x:transpose())
    end, { wide }))
  end)

  it("square factors of a matrix that is not square is refused with the remedy", function()
    local x = tall:detach():requires_grad(true)
    assert.match("svd: .* have no gradient: pass full_matrices = false", message(function() return nn.svd(x):sum():backward() end))
    assert.match("qr: .* has no gradient: leave `complete` out", message(function() return nn.qr(x, true):sum():backward() end))
    select(2, nn.svd(x)):sum():backward() -- singular values have one
    assert.same({ 4, 2 }, x:grad():shape())
  end)
end)

-- the sum over all positions, label by label, in doubles
local function einsum(output, inputs, operands)
  local size, labels = {}, {}
  for k, subscripts in ipairs(inputs) do
    for i = 1, #subscripts do
      local label = subscripts:sub(i, i)
      local n = operands[k]:size(i)
      if not size[label] then labels[#labels + 1] = label end
      size[label] = math.max(size[label] or 1, n)
    end
  end
  local values, strides, total = {}, {}, {}
  for k, x in ipairs(operands) do
    values[k], strides[k] = support.flat(x:totable()), {}
    local stride = 1
    for i = x:dim(), 1, -1 do
      strides[k][i] = x:size(i) == 1 and 0 or stride
      stride = stride * x:size(i)
    end
  end
  local at = {}
  local function walk(depth)
    if depth <= #labels then
      for v = 0, size[labels[depth]] - 1 do
        at[labels[depth]] = v
        walk(depth + 1)
      end
      return
    end
    local term, place = 1, 0
    for k, subscripts in ipairs(inputs) do
      local offset = 1
      for i = 1, #subscripts do offset = offset + at[subscripts:sub(i, i)] * strides[k][i] end
      term = term * values[k][offset]
    end
    for i = 1, #output do place = place * size[output:sub(i, i)] + at[output:sub(i, i)] end
    total[place + 1] = (total[place + 1] or 0) + term
  end
  walk(1)
  local shape = {}
  for i = 1, #output do shape[i] = size[output:sub(i, i)] end
  return total, shape
end

describe("einsum", function()
  local length = { i = 2, j = 3, k = 4, l = 2, m = 3, b = 2, c = 2 }
  local function tensor(subscripts, seed)
    local shape, n, noise, list = {}, 1, support.noise(seed), {}
    for i = 1, #subscripts do
      local label = subscripts:sub(i, i)
      shape[i] = length[label] or 1 -- upper case: a dim of size 1
      n = n * shape[i]
    end
    for i = 1, n do list[i] = noise() end
    return nn.tensor(list):reshape(shape)
  end
  -- equation -> the same without shorthands, where it has some; an upper-case letter is its lower-case label with size 1
  for equation, plain in pairs {
    ["ij,jk->ik"] = true, ["ij,jk"] = "ij,jk->ik", ["ji"] = "ji->ij", ["ij->"] = true, ["ij"] = "ij->ij", ["ii"] = "ii->", ["ii->i"] = true,
    ["iji->j"] = true, ["iij->ij"] = true, ["iii->i"] = true, ["i,i"] = "i,i->", ["i,j"] = "i,j->ij", ["ij,ij->ij"] = true, ["ij,ij->j"] = true,
    ["bij,bjk->bik"] = true, ["bij,bjk->kib"] = true, ["bij,jk->bki"] = true, ["bcij,bcjk->bcik"] = true, ["i,ij,j"] = "i,ij,j->",
    ["ij,jk,kl->il"] = true, ["ij,jk,kl->li"] = true, [" i j , j k -> k i "] = "ij,jk->ki", ["ij,kl->"] = true, ["ij,kl->ik"] = true, ["i->i"] = true,
    ["...ij,...jk->...ik"] = "bij,bjk->bik", ["i...->..."] = "ibc->bc", ["...i"] = "bci->bci", ["i...,i..."] = "ibc,ibc->bc",
    ["...,..."] = "bc,bc->bc",
    ["b...,...->...b"] = "bij,ij->ijb", ["i...i"] = "ibi->b", ["ij,Ij->ij"] = "ij,Ij->ij", ["ij,iJ->i"] = "ij,iJ->i", ["bij,bij,bi,j->i"] = true,
    ["ijk,ilm,njm,nlk,abc->"] = "ijk,ilm,Njm,Nlk,Abc->",
  } do
    plain = plain == true and equation or plain
    it(equation, function()
      local left, output = plain:gsub("%s", ""):match "^(.-)%->(.*)$"
      local inputs, operands = {}, {}
      for subscripts in (left .. ","):gmatch "(.-)," do
        operands[#operands + 1] = tensor(subscripts, #operands + 1)
        inputs[#inputs + 1] = subscripts:lower()
      end
      local want, shape = einsum(output:lower(), inputs, operands)
      local got = nn.einsum(equation:lower(), table.unpack(operands))
      assert.same(shape, got:shape())
      close(want, got)
      assert(nn.gradcheck(function(...) return nn.einsum(equation:lower(), ...) end, operands))
    end)
  end

  it("takes a list, keeps whole numbers whole, and broadcasts leading dims of an ellipsis", function()
    local ones, a = nn.tensor({ { 1, 1 }, { 1, 1 } }, { dtype = "i64" }), nn.tensor({ { 16777217, 1 }, { 2, 1 } }, { dtype = "i64" })
    assert.same({ { 16777219, 2 }, { 16777219, 2 } }, nn.einsum("ij,jk->ik", { ones, a }):totable()) -- no f32 is 16777219
    local x, y = tensor("ij", 1), tensor("bcjk", 2)
    local want = nn.stack { nn.stack { x:matmul(y[1][1]), x:matmul(y[1][2]) }, nn.stack { x:matmul(y[2][1]), x:matmul(y[2][2]) } }
    close(want, nn.einsum("...ij,...jk->...ik", x, y))
  end)

  it("errors name label and operand", function()
    local x = nn.zeros(2, 3)
    local function said(...) return message(nn.einsum, ...) end
    assert.equal("einsum: label 'j' is 3 in operand 1 and 2 in operand 2", said("ij,jk->ik", x, x))
    assert.equal("einsum: 'ij,jk' has 2 operands, 1 are given", said("ij,jk", x))
    assert.equal("einsum: operand 1 has 2 dims, 'ijk' names 3", said("ijk", x))
    assert.equal("einsum: operand 1 has 2 dims, 'i' names 1", said("i", x))
    assert.equal("einsum: the result names 'k', which no operand has", said("ij->k", x))
    assert.equal("einsum: the result names 'i' twice", said("ij->ii", x))
    assert.equal("einsum: operand 1: '1' is no label (labels are letters; an ellipsis is three dots)", said("i1", x))
    assert.equal("einsum: operand 1: '.' is no label (labels are letters; an ellipsis is three dots)", said("i..", x))
    assert.equal("einsum: operand 1 has two ellipses: '......'", said("......", x))
    assert.equal("einsum: the ellipsis stands for 1 dims: the result needs one too", said("i...->i", x))
    assert.equal("einsum: label 'i' names dims of 2 and 3 of one operand", said("ii", x))
    assert.match("einsum: operand 1 must be a tensor, got 3", said("i", 3))
    assert.match("einsum: the first argument must be an equation", said(x, x))
  end)
end)

describe("bad arguments", function()
  it("are named", function()
    for _, name in ipairs { "inv", "det", "slogdet", "cholesky", "eigh" } do
      assert.equal(name .. ": the matrix must be square, the shape is (2x3)", message(nn[name], nn.zeros(2, 3)))
      assert.equal(name .. ": a matrix (at least 2 dims) is needed, the shape is (3)", message(nn[name], nn.zeros(3)))
    end
    for _, name in ipairs { "qr", "svd", "pinv" } do assert.match(name .. ": a matrix", message(nn[name], nn.zeros(3))) end
    assert.equal("solve: a (2x2) has 2 rows, b (3x1) must have as many", message(nn.solve, nn.zeros(2, 2), nn.zeros(3, 1)))
    assert.equal("lstsq: a (4x2) has 4 rows, b (2) must have as many", message(nn.lstsq, nn.zeros(4, 2), nn.zeros(2)))
    assert.match("solve: leading dims do not broadcast", message(nn.solve, nn.zeros(2, 3, 3), nn.zeros(4, 3, 1)))
  end)
end)

describe("in a graph", function()
  it("a decomposition counts its work", function()
    local g = nn.graph(function(x) return x:inv() end, nn.tensor { matrix(6, 6, 1), matrix(6, 6, 2) })
    assert.equal(2 * 2 * 6 ^ 3, g.flops)
  end)
end)

describe("without LAPACK", function()
  it("the message names the library", function()
    local program = arg and arg[-1] or nil
    for i = 0, -10, -1 do program = arg[i] or program end
    local code = [[local nn = require "nnlua"; print(pcall(function() return nn.ones(1, 1):inv():item() end))]]
    local pipe = assert(io.popen(("NNLUA_BLAS=/none/such.so '%s' -e '%s' 2>&1"):format(program, code)))
    local said = pipe:read "a"
    pipe:close()
    assert.match("inv: needs LAPACK, which is not installed: libopenblas.so.0", said)
  end)
end)
