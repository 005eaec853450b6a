-- Lecture 12: preprocessing.
-- You learn: networks want inputs of about the same size, near zero; Rescaling for pixels, Normalization for measured features; mean and deviation
-- come from the training data only, and travel with the model.
local nn = require "nnlua"

nn.seed(1)
local function houses(n) -- area in square metres, rooms, year: price in thousands
  local area, rooms, year = nn.normal({ n }, 120, 40), nn.randint(1, 8, { n }):float(), nn.uniform({ n }, 1900, 2020)
  local price = 2.5 * area + 20 * rooms + 0.8 * (year - 1900) + nn.normal({ n }, 0, 5)
  return nn.stack({ area, rooms, year }, -1), price:reshape(-1, 1) / 100
end
local x, y = houses(512)
local test_x, test_y = houses(256)

local function statistics(title, t)
  local mean, std = t:mean(1):totable(), t:std(1):totable()
  print(title)
  for i, name in ipairs { "area", "rooms", "year" } do print(("  %-6s mean %9.3f  deviation %8.3f"):format(name, mean[i], std[i])) end
end
statistics("Raw features, as they were measured:", x)

local normalize = nn.Normalization {}
normalize:adapt(x) -- the training data, never the test data
statistics("\nAfter Normalization: (x - mean) / deviation, of each feature by itself:", normalize(x))
statistics("\nThe test data, with the numbers of the training data: nearly so:", normalize(test_x))
local z = normalize(x)
assert(z:mean(1):abs():amax():item() < 1e-3 and (z:std(1) - 1):abs():amax():item() < 1e-2)

print "\nThe same small network, 15 epochs, with and without:"
local function train(...)
  nn.seed(2)
  local model = nn.Sequential { nn.Input { 3 }, ... }
  model:compile { optimizer = nn.optim.Adam { lr = 0.01 }, loss = "mse" }
  model:fit { x, y, epochs = 15, batch_size = 32, verbose = 0 }
  return model, (model:evaluate(test_x, test_y))
end
local _, raw = train(nn.Dense { 16, activation = "relu" }, nn.Dense { 1 })
local model, good = train(normalize, nn.Dense { 16, activation = "relu" }, nn.Dense { 1 })
print(("  raw features  test loss %8.4f\n  normalized    test loss %8.4f"):format(raw, good))
assert(good < raw / 5)

local file = os.tmpname()
assert(model:save(file))
local again = assert(nn.load(file))
os.remove(file)
print "\nThe layer is part of the model: its numbers are in the file, so that nobody forgets them."
assert((again:predict(test_x) - model:predict(test_x)):abs():amax():item() == 0)

local pixels = nn.tensor({ 0, 51, 128, 255 }, { dtype = "u8" })
print("\nPixels are bytes from 0 to 255; their scale is known, Rescaling{1/255} is enough:")
print("  " .. tostring(pixels) .. "\n  " .. tostring(nn.Rescaling { 1 / 255 }(pixels)))
assert(nn.Rescaling { 1 / 255 }(pixels):amax():item() == 1)
