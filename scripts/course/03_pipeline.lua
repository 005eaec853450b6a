-- Lecture 3: the data pipeline.
-- You learn: a data set is a recipe, nothing is read before somebody asks; map, shuffle, batch and prefetch; every epoch has its own order but a seed
-- repeats all of them; and a pass that was interrupted goes on where it stood.
local nn = require "nnlua"

local function order(ds)
  local list = {}
  for batch in ds:iter() do
    for _, v in ipairs(batch:totable()) do list[#list + 1] = v end
  end
  return table.concat(list, " ")
end

local numbers = nn.data.range(10)
print("the source          ", numbers)
local batches = numbers:batch(4)
print("batch(4)            ", batches)
for x in batches:iter() do io.write("                      ", tostring(x), "\n") end

print "\nTransformation functions get an element and return one; this one makes pairs of input and target:"
local squares = nn.data.range(10):map(function(n) return n:float() / 10, (n * n):float() end)
for x, y in squares:batch(5):iter() do print("  x", x, "\n  y", y) end

print "\nshuffle: a buffer from which a random element comes next. Another order each epoch:"
local shuffled = numbers:shuffle(10, { seed = 7 }):batch(5)
local first, second = order(shuffled), order(shuffled)
print("  epoch 1  " .. first .. "\n  epoch 2  " .. second)
assert(first ~= second)
local again = numbers:shuffle(10, { seed = 7 }):batch(5)
assert(order(again) == first and order(again) == second)
print "  and the same two epochs again from the same seed, on any machine, with any number of threads."

print "\nThe pipeline of a training: shuffle before batch, prefetch last (it works ahead while the network computes)."
local train = nn.datasets.digits { train = 1000, test = 100 }
local pipeline = train:shuffle(1000):batch(64):prefetch(2)
print("  " .. tostring(train) .. "\n  " .. tostring(pipeline))
local count, images = 0, 0
for x, y in pipeline:iter() do
  count, images = count + 1, images + x:size(1)
  if count == 1 then print("  the first batch: x {" .. table.concat(x:shape(), ", ") .. "}, y {" .. table.concat(y:shape(), ", ") .. "}") end
end
print(("  %d batches, %d images: the last batch has the 40 that are left."):format(count, images))
assert(count == 16 and images == 1000)

print "\nState: after two batches the pass is written down; another program with the same recipe goes on there."
local one, two = numbers:shuffle(10, { seed = 7 }):batch(2), numbers:shuffle(10, { seed = 7 }):batch(2)
local seen, rest = {}, nil
for x in one:iter() do
  seen[#seen + 1] = table.concat(x:totable(), " ")
  if #seen == 2 then rest = one:state() break end
end
local remaining = order(two:restore(rest))
print("  before: " .. table.concat(seen, " ") .. "\n  after:  " .. remaining)
assert(table.concat(seen, " ") .. " " .. remaining == first, "nothing is repeated, nothing is lost")
