--- What layers over sequences (N, T, C), images (N, H, W, C) and volumes (N, D, H, W, C) share. Not exported.
--
-- Owns: options that hold a number per spatial dim, sizes of windows' results, the texts of both, and the refusal of channels first. The classes that
-- use it have a field `rank`, the number of spatial dims.

local options = require "nnlua.options"

local spatial = {}

local samples = { "sequences (N, T, C)", "images (N, H, W, C)", "volumes (N, D, H, W, C)" }
local many = { "an integer", "an integer or a pair of them", "an integer or three of them" }

--- Classes pattern:format(1), ... of M, each of as many spatial dims: `make(name, rank)` returns the class, with its methods.
---@param first integer
function spatial.each(M, pattern, make, first)
  for rank = first or 1, 3 do
    local name = pattern:format(rank)
    M[name] = make(name, rank)
    M[name].rank = rank
  end
end

--- `spec` with Keras's data_format, of which only channels_last is taken.
function spatial.options(spec)
  spec.data_format = { "string", default = "channels_last", choices = { "channels_last", "channels_first" } }
  return spec
end

--- Refuse channels first.
function spatial.check_format(layer)
  if layer.data_format ~= "channels_first" then return end
  options.raise(('%s: option "data_format" must be "channels_last": samples are %s; move the channels with a Permute layer, nn.Permute{%s}')
    :format(getmetatable(layer).__name, samples[layer.rank], ({ "2, 1", "2, 3, 1", "2, 3, 4, 1" })[layer.rank]))
end

--- The integer or list `value` of the option `key` as a list of a number per spatial dim.
function spatial.sizes(layer, key, value, least)
  local rank, given = layer.rank, value
  if type(value) == "number" then
    local list = {}
    for i = 1, rank do list[i] = value end
    value = list
  end
  local ok, out = #value == rank, {}
  for i, n in ipairs(value) do
    out[i] = math.tointeger(n)
    ok = ok and out[i] and out[i] >= (least or 1)
  end
  if not ok then
    options.raise(("%s: option %q must be %s, at least %d, got %s"):format(getmetatable(layer).__name, key, many[rank], least or 1,
      options.list_text(given)))
  end
  return out
end

--- Put the options `keys` into that form.
function spatial.store(layer, keys)
  for _, key in ipairs(keys) do rawset(layer, key, spatial.sizes(layer, key, layer[key])) end
end

--- "3x3"
function spatial.text(sizes) return table.concat(sizes, "x") end

--- Raise unless samples of `shape` have the layer's dims.
function spatial.need(layer, shape)
  if #shape ~= layer.rank + 1 then layer:refuse("needs " .. samples[layer.rank], shape) end
end

--- `sizes` and what follows them as one list.
function spatial.joined(sizes, ...)
  local out = table.move(sizes, 1, #sizes, 1, {})
  for _, n in ipairs { ... } do out[#out + 1] = n end
  return out
end

-- Positions of a window of `size` (spread by `dilation`) along `n` elements. "same" and "causal" cover every element: ceil(n / stride).
local function positions(n, size, stride, dilation, padding)
  if n < 0 then return -1 end
  if padding ~= "valid" then return (n + stride - 1) // stride end
  local room = n - dilation * (size - 1) - 1
  return room < 0 and 0 or room // stride + 1
end

--- Shape of what windows over samples of `shape` give, with `channels` in the last dim.
function spatial.window_shape(layer, shape, window, strides, dilation, channels)
  spatial.need(layer, shape)
  local out = {}
  for i = 1, layer.rank do
    out[i] = positions(shape[i], window[i], strides[i], dilation and dilation[i] or 1, layer.padding)
    if out[i] == 0 then layer:refuse(("a window of %s does not fit"):format(spatial.text(window)), shape) end
  end
  out[layer.rank + 1] = channels
  return out
end

--- What is not 1 everywhere, as "stride 2x2".
function spatial.detail(words, name, sizes)
  for _, n in ipairs(sizes) do
    if n ~= 1 then
      words[#words + 1] = name .. " " .. spatial.text(sizes)
      return
    end
  end
end

spatial.samples = samples
return spatial
