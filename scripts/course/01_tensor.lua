-- Lecture 1: the tensor.
-- You learn: a tensor is a box of numbers with any number of dims; its shape and dtype; how to index it (positions count from 1); broadcasting;
-- and that a tensor is a value: nothing that happens to one name changes another.
local nn = require "nnlua"

print "Numbers in boxes, from no dim to four:"
local function show(name, t)
  print(("  %-34s %d dims  shape %-12s %6d x %s"):format(name, t:dim(), "{" .. table.concat(t:shape(), ", ") .. "}", t:numel(), t:dtype()))
end
show("a scalar, a loss for example", nn.tensor(0.25))
show("a vector, a list of scores", nn.tensor { 0.5, 1.5, -2.0 })
show("a matrix, weights of a layer", nn.zeros(784, 10))
show("a batch of 64 gray images", nn.zeros({ 64, 28, 28, 1 }, "u8"))

local m = nn.tensor { { 1, 2, 3 }, { 4, 5, 6 } }
print("\nm =\n" .. tostring(m))
print("m[1], the first row:        ", m[1])
print("m[{2, 3}], row 2, column 3: ", m[{ 2, 3 }])
print("m[{{}, -1}], the last column:", m[{ {}, -1 }])
print("m[m:gt(3)], what is above 3: ", m[m:gt(3)])

print "\nOperators work on each element; * is no matrix product, matmul is:"
print("m * 10 =\n" .. tostring(m * 10))
print("m:matmul(m:transpose()) =\n" .. tostring(m:matmul(m:transpose())))

print "\nBroadcasting: sizes of 1 and missing dims in front stretch, {2, 3} + {3} and {2, 3} * {2, 1}:"
print("m + {10, 20, 30} =\n" .. tostring(m + nn.tensor { 10, 20, 30 }))
print("m * {{1}, {-1}} =\n" .. tostring(m * nn.tensor { { 1 }, { -1 } }))
assert((m + nn.tensor { 10, 20, 30 })[{ 2, 3 }]:item() == 36)

print "\nOther shapes of the same six numbers cost nothing, they are views:"
print("m:reshape(3, 2) =\n" .. tostring(m:reshape(3, 2)))
print("sum of all, over dim 1, over dim 2: ", m:sum():item(), m:sum(1), m:sum(2))

local view = m:reshape(6)
m[{ 1, 1 }] = 100
print "\nA tensor is a value. m[{1, 1}] = 100 gives m a new one; a view that was taken before keeps the old:"
print("m[1] =", m[1])
print("view =", view)
assert(m[{ 1, 1 }]:item() == 100 and view[1]:item() == 1)

local ok, message = pcall(function() return m:matmul(m) end)
assert(not ok)
print("\nShapes that do not fit are an error at your line:\n  " .. message)
