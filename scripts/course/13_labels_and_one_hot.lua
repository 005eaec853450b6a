-- Lecture 13: label encoding and one-hot.
-- You learn: networks compute with numbers, so names become class ids (from 1); ids are names, not amounts, so they become one-hot rows inside; and
-- the encoder turns predictions back into names.
local nn = require "nnlua"

local animals = { "cat", "dog", "bird", "dog", "cat", "fish" }
local encoder = nn.data.LabelEncoder.fit(animals)
local ids = encoder:encode(animals)
print("names:  ", table.concat(animals, " "))
print("encoder:", encoder)
print("ids:    ", table.concat(ids, " "))
print("back:   ", table.concat(encoder:decode(ids), " "))
assert(table.concat(encoder:decode(ids), " ") == table.concat(animals, " "))

print "\nOne-hot: a row per sample with a 1 at its class."
local rows = nn.one_hot(nn.tensor(ids), #encoder)
print(rows)
assert(rows:sum():item() == #animals and rows[{ 1, 2 }]:item() == 1)

print "\nWhy not the ids themselves? They would say that bird (1) and cat (2) are more alike than bird and fish (4):"
local function distance(a, b) return (a - b):norm():item() end
local bird, cat, fish = rows[3], rows[1], rows[6]
print(("  ids:     bird-cat %d, bird-fish %d"):format(ids[1] - ids[3], ids[6] - ids[3]))
print(("  one-hot: bird-cat %.3f, bird-fish %.3f: all classes are as far apart"):format(distance(bird, cat), distance(bird, fish)))
assert(distance(bird, cat) == distance(bird, fish))

print "\nLosses take either form; with ids no rows need to be made:"
nn.seed(1)
local p = nn.randn(6, 4):softmax()
local with_ids = nn.losses.sparse_categorical_crossentropy(p, nn.tensor(ids)):item()
local with_rows = nn.losses.categorical_crossentropy(p, rows):item()
print(("  sparse_categorical_crossentropy(p, ids) %.6f\n  categorical_crossentropy(p, rows)       %.6f"):format(with_ids, with_rows))
assert(math.abs(with_ids - with_rows) < 1e-5)

print "\nA product of a one-hot row and a matrix picks a row of it. That is what an Embedding does, without the product:"
local table_of_vectors = nn.randn(4, 3)
local picked = rows:matmul(table_of_vectors)
print(picked)
assert((picked - nn.embedding(nn.tensor(ids), table_of_vectors)):abs():amax():item() == 0)

print "\nA sample with several labels has several ones, and a number in ranges is encoded as its range:"
print("  multi-hot:", nn.CategoryEncoding { 4 }(nn.tensor { { 1, 3 } }))
print("  ages 4, 30, 70 between 18 and 65:", nn.Discretization { { 18, 65 } }(nn.tensor { 4, 30, 70 }))

print "\nThe encoder goes with the data set, the model and its file. MNIST's digit 7 is class 8:"
local digits = nn.datasets.digits { train = 10, test = 10 }
print("  digit 7 -> class id", digits.labels:encode(7), " class id 8 -> digit", digits.labels:decode(8))
assert(digits.labels:encode(7) == 8 and digits.labels:decode(8) == 7)
