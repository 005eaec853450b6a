-- Lecture 14: augmentation.
-- You learn: a picture of a 3 that is moved, turned or noisy is still a 3; layers make such changes at random, new ones in every epoch, in training
-- only; but a mirrored 3 is none: only changes that keep the class are allowed.
local nn = require "nnlua"

-- Draws gray images (N, 28, 28, 1) in 0..1 side by side, every other row and column.
local function draw(x)
  local pixels = x:squeeze(-1):clamp(0, 1):totable()
  for row = 1, 27, 2 do
    local line = {}
    for _, picture in ipairs(pixels) do
      for column = 1, 27, 2 do
        local shade = picture[row][column] * 5.99 // 1 + 1
        line[#line + 1] = (" .:+#@"):sub(shade, shade)
      end
      line[#line + 1] = "  "
    end
    print("  " .. table.concat(line))
  end
end

nn.seed(5)
local train = nn.datasets.digits { train = 40, test = 1 }
local image
for x, y in train:iter() do
  if train.labels:decode(y:item()) == 3 then image = x:float() / 255 break end
end
local copies = image:reshape(1, 28, 28, 1):expand(4, 28, 28, 1)

local kinds = {
  { "RandomRotation by up to 30 degrees", nn.RandomRotation { 30 / 360, fill_mode = "constant" } },
  { "RandomTranslation by up to a fifth", nn.RandomTranslation { 0.2, 0.2, fill_mode = "constant" } },
  { "GaussianNoise of deviation 0.2", nn.GaussianNoise { 0.2 } },
  { "RandomFlip, horizontal (no good for digits)", nn.RandomFlip { "horizontal" } },
}
for _, kind in ipairs(kinds) do
  print(kind[1])
  local changed = kind[2](copies)
  draw(changed)
  assert(changed:size(1) == 4 and (changed - copies):abs():amax():item() > 0.1)
  assert((kind[2]:eval()(copies) - copies):abs():amax():item() == 0, "in inference the layer does nothing")
end

local photo = nn.tensor { { { 0.9, 0.2, 0.1 }, { 0.2, 0.6, 0.9 } } }:reshape(1, 1, 2, 3):expand(3, 1, 2, 3)
print "ColorJitter: a red and a blue pixel, three times (red, green, blue of each):"
print(nn.ColorJitter { brightness = 0.3, saturation = 0.3, hue = 0.1, value_range = { 0, 1 } }(photo):reshape(3, 6))
local gray = nn.RandomGrayscale { 1 }(photo)
assert((gray:amax(4) - gray:amin(4)):amax():item() == 0)

local augment = nn.Sequential { nn.Rescaling { 1 / 255 }, kinds[1][2]:train(), kinds[2][2]:train() }
local pipeline = train:batch(40):map(function(x, y) return augment(x), y end)
local epochs = {}
for epoch = 1, 2 do for x in pipeline:iter() do epochs[epoch] = x end end
local difference = (epochs[1] - epochs[2]):abs():mean():item()
print(("In a pipeline: mean difference of the images between two epochs %.3f, the classes stay."):format(difference))
assert(difference > 0.01)
