--- Linear algebra made of other operators.
--
-- Owns: nn.einsum. The rest (matmul, solve, svd, ...) are operators of the runtime (runtime/ops/linalg.c).

local options = require "nnlua.options"

local linalg = {}

local function fail(text, ...) options.raise("einsum: " .. text:format(...)) end

-- The labels of one operand's subscripts: letters, and for an ellipsis "." (once).
local function parse(subscripts, which)
  local labels, dots = {}, false
  local rest = subscripts:gsub("%s", "")
  while rest ~= "" do
    local letter = rest:match "^%a"
    if letter then
      rest = rest:sub(2)
    elseif rest:sub(1, 3) == "..." then
      if dots then fail("%s has two ellipses: '%s'", which, subscripts) end
      letter, dots, rest = ".", true, rest:sub(4)
    else
      fail("%s: '%s' is no label (labels are letters; an ellipsis is three dots)", which, rest:sub(1, 1))
    end
    labels[#labels + 1] = letter
  end
  return labels
end

-- An ellipsis becomes labels ".n" ... ".2", ".1", counted from its right end, so that those of all operands meet as in broadcasting.
local function spread(labels, dots)
  local out = {}
  for _, label in ipairs(labels) do
    if label == "." then
      for k = dots, 1, -1 do out[#out + 1] = "." .. k end
    else
      out[#out + 1] = label
    end
  end
  return out
end

local function position(list, label)
  for i, v in ipairs(list) do
    if v == label then return i end
  end
end

-- x with its dims in the order of `labels`, all of which it has.
local function arrange(x, from, labels)
  local dims, same = {}, true
  for i, label in ipairs(labels) do
    dims[i] = position(from, label)
    same = same and dims[i] == i
  end
  return same and x or x:permute(dims)
end

-- "ii": the diagonal takes the place of the two dims
local function diagonals(x, labels)
  for i = 1, #labels do
    local j = position({ table.unpack(labels, i + 1) }, labels[i])
    if j then
      local n, order, left, shape = x:size(i), {}, {}, {}
      for k = 1, #labels do
        if k ~= i and k ~= i + j then order[#order + 1], left[#left + 1], shape[#shape + 1] = k, labels[k], x:size(k) end
      end
      if x:size(i + j) ~= n then fail("label '%s' names dims of %d and %d of one operand", labels[i], n, x:size(i + j)) end
      order[#order + 1], order[#order + 2], left[#left + 1], shape[#shape + 1] = i, i + j, labels[i], n * n
      local start, size, step = {}, {}, {}
      for k = 1, #shape do start[k], size[k], step[k] = 1, shape[k], 1 end
      size[#size], step[#step] = n, n + 1
      return diagonals(x:permute(order):reshape(shape):slice(start, size, step), left)
    end
  end
  return x, labels
end

-- One operand of a product in progress: a tensor and its labels.
local function operand(x, labels) return { x = x, labels = labels } end

-- without the labels that nobody asks for
local function summed(a, wanted)
  local dims, left = {}, {}
  for i, label in ipairs(a.labels) do
    if wanted[label] then left[#left + 1] = label else dims[#dims + 1] = i end
  end
  return #dims == 0 and a or operand(a.x:sum(dims), left)
end

-- without those dims of size 1 that the other has longer: they broadcast
local function narrowed(a, b)
  local shape, left = {}, {}
  for i, label in ipairs(a.labels) do
    local other = position(b.labels, label)
    if a.x:size(i) ~= 1 or not other or b.x:size(other) == 1 then shape[#shape + 1], left[#left + 1] = a.x:size(i), label end
  end
  return #left == #a.labels and a or operand(a.x:reshape(shape), left)
end

local function sizes(x, labels, names)
  local shape, n = {}, 1
  for i, label in ipairs(names) do
    shape[i] = x:size(position(labels, label))
    n = n * shape[i]
  end
  return shape, n
end

local function join(...)
  local out = {}
  for _, list in ipairs { ... } do table.move(list, 1, #list, #out + 1, out) end
  return out
end

-- The product of two operands; `wanted` are the labels of the others and of the result.
local function contract(a, b, wanted)
  a, b = narrowed(a, b), narrowed(b, a)
  local both, gone, left, right, has, asked = {}, {}, {}, {}, {}, {}
  for label in next, wanted do asked[label] = true end
  for _, label in ipairs(a.labels) do has[label], asked[label] = true, asked[label] or position(b.labels, label) end
  for _, label in ipairs(b.labels) do asked[label] = asked[label] or has[label] end
  a, b = summed(a, asked), summed(b, asked)
  for _, label in ipairs(a.labels) do
    local list = not position(b.labels, label) and left or wanted[label] and both or gone
    list[#list + 1] = label
  end
  for _, label in ipairs(b.labels) do
    if not has[label] then right[#right + 1] = label end
  end
  local labels = join(both, left, right)
  local x, y = arrange(a.x, a.labels, join(both, left, gone)), arrange(b.x, b.labels, join(both, gone, right))
  local shape_b, nb = sizes(a.x, a.labels, both)
  local shape_l, nl = sizes(a.x, a.labels, left)
  local shape_r, nr = sizes(b.x, b.labels, right)
  local _, ng = sizes(a.x, a.labels, gone)
  local out
  if #gone > 0 and x:dtype():match "^b?f%d" and y:dtype():match "^b?f%d" then
    out = x:reshape { nb, nl, ng }:matmul(y:reshape { nb, ng, nr })
  else -- nothing to sum over, or whole numbers, which a matrix product would round
    out = x:reshape { nb, nl, ng, 1 } * y:reshape { nb, 1, ng, nr }
    out = #gone > 0 and out:sum(3) or out
  end
  return operand(out:reshape(join(shape_b, shape_l, shape_r)), labels)
end

-- labels of the operands but i and j, and of the result
local function needed(list, output, i, j)
  local wanted = {}
  for _, label in ipairs(output) do wanted[label] = true end
  for k, a in ipairs(list) do
    if k ~= i and k ~= j then
      for _, label in ipairs(a.labels) do wanted[label] = true end
    end
  end
  return wanted
end

-- The two operands whose product is smallest.
local function best_pair(list, output, size)
  local bi, bj, least
  for i = 1, #list do
    for j = i + 1, #list do
      local wanted, n, seen = needed(list, output, i, j), 1, {}
      for _, label in ipairs(join(list[i].labels, list[j].labels)) do
        if wanted[label] and not seen[label] then n, seen[label] = n * size[label], true end
      end
      if not least or n < least then bi, bj, least = i, j, n end
    end
  end
  return bi, bj
end

-- The result's labels where the equation does not say: the ellipsis, then what appears once, in alphabetical order.
local function implied(inputs, dots)
  local count, out = {}, {}
  for _, labels in ipairs(inputs) do
    for _, label in ipairs(labels) do count[label] = (count[label] or 0) + 1 end
  end
  for label, n in next, count do
    if n == 1 and label ~= "." then out[#out + 1] = label end
  end
  table.sort(out)
  for k = 1, dots do table.insert(out, 1, "." .. k) end
  return out
end

-- equation -> labels of each operand, of the result
local function read(equation, operands)
  if type(equation) ~= "string" then fail("the first argument must be an equation such as 'ij,jk->ik', got %s", options.shown(equation)) end
  local left, right = equation:match "^(.-)%->(.*)$"
  left = left or equation
  local inputs, dots = {}, 0
  for part in (left .. ","):gmatch "(.-)," do inputs[#inputs + 1] = parse(part, "operand " .. #inputs + 1) end
  if #inputs ~= #operands then fail("'%s' has %d operands, %d are given", equation, #inputs, #operands) end
  for i, labels in ipairs(inputs) do
    local x, dotted = operands[i], position(labels, ".")
    local more = x:dim() - #labels + (dotted and 1 or 0)
    if more < 0 or (more > 0 and not dotted) then
      fail("operand %d has %d dims, '%s' names %d", i, x:dim(), equation, #labels - (dotted and 1 or 0))
    end
    if dotted then dots = math.max(dots, more) end
    inputs[i] = { labels = labels, more = more }
  end
  local plain = {}
  for i, input in ipairs(inputs) do
    plain[i] = input.labels
    inputs[i] = spread(input.labels, input.more)
  end
  if not right then return inputs, implied(plain, dots) end
  local output, seen = parse(right, "the result"), {}
  if dots > 0 and not position(output, ".") then fail("the ellipsis stands for %d dims: the result needs one too", dots) end
  output = spread(output, dots)
  for _, label in ipairs(output) do
    if seen[label] then fail("the result names '%s' twice", label) end
    seen[label] = true
  end
  return inputs, output
end

--- Einstein's summation, with NumPy's grammar: each operand's dims are named by letters, operands by commas; what the result (behind `->`)
--- does not name is summed over. A letter twice in an operand takes its diagonal, `...` stands for any dims, and without `->` the result has the
--- letters that appear once, in alphabetical order. Products of two operands with sums are matrix products.
--
--     local nn = require "nnlua"
--     local a, b = nn.tensor{{1.0, 2.0}, {3.0, 4.0}}, nn.tensor{{0.0, 1.0}, {1.0, 0.0}}
--     print(nn.einsum("ij,jk->ik", a, b)[1][1]:item())  --> 2.0
--     print(nn.einsum("ii", a):item())  --> 5.0
---@param equation string such as "bij,bjk->bik"
---@param ... nn.Tensor the operands, or one list of them
---@return nn.Tensor
function linalg.einsum(equation, ...)
  local operands = { ... }
  if type(operands[1]) == "table" and #operands == 1 then operands = operands[1] end
  for i, x in ipairs(operands) do
    if type(x) ~= "userdata" then fail("operand %d must be a tensor, got %s", i, options.shown(x)) end
  end
  local inputs, output = read(equation, operands)
  local list, size, owner = {}, {}, {}
  for i, labels in ipairs(inputs) do
    list[i] = operand(diagonals(operands[i], labels))
    for k, label in ipairs(list[i].labels) do
      local n = list[i].x:size(k)
      if size[label] and size[label] ~= n and size[label] ~= 1 and n ~= 1 then
        fail("label '%s' is %d in operand %d and %d in operand %d", label:sub(1, 1), size[label], owner[label], n, i)
      end
      if not size[label] or size[label] == 1 then size[label], owner[label] = n, i end
    end
  end
  for _, label in ipairs(output) do
    if not size[label] then fail("the result names '%s', which no operand has", label) end
  end
  while #list > 1 do
    local i, j = best_pair(list, output, size)
    local product = contract(list[i], list[j], needed(list, output, i, j))
    table.remove(list, j)
    list[i] = product
  end
  local last = summed(list[1], needed({}, output))
  return arrange(last.x, last.labels, output)
end

return linalg
