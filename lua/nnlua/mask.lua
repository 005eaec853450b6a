--- Masks: which steps of sequences count. `nn.with_mask(x, mask)`, `nn.mask_of(x)`.
--
-- Owns: where a mask is while layers hand a tensor on: beside the tensor, in a table that forgets it with the tensor's handle. So every model can
-- carry masks, Sequential or by hand, and layers have one input. A mask is (N, T), true where a step counts.
-- Embedding{mask_zero = true} and Masking make one; layers whose `keeps_mask` is true pass it on; recurrent layers, attention,
-- GlobalAveragePooling1D and the losses heed it. Any other operator or layer drops it.
--
--     local nn = require "nnlua"
--     local x = nn.Masking{}(nn.tensor{ { {1, 2}, {0, 0} } })   -- the second step is padding
--     print(nn.mask_of(x):totable()[1][2], nn.mask_of(nn.Dense{3}(x)):size())   --> false  1  2
--     print(nn.mask_of(x + 1))                                                  --> nil

local masks = setmetatable({}, { __mode = "k" }) -- tensor handle -> mask

local mask = {}

--- The mask that x carries, or nil.
---@param x nnlua.Tensor
---@return nnlua.Tensor?
function mask.of(x) return masks[x] end
mask.mask_of = mask.of

--- Let the handle x carry `m` (nil: nothing). For layers, of results they made. Returns x.
function mask.set(x, m)
  masks[x] = m
  return x
end

--- The value of x under a new handle that carries the mask `m` (N, T).
---@param x nnlua.Tensor
---@param m nnlua.Tensor
---@return nnlua.Tensor
function mask.with_mask(x, m)
  local fits = x:dim() >= 2 and m:dim() == 2 and m:size(1) == x:size(1) and m:size(2) == x:size(2)
  if not fits then
    require("nnlua.options").raise(("with_mask: x of shape (%s) needs a mask (N, T) of its first two sizes, got (%s)"):format(
      table.concat(x:shape(), ", "), table.concat(m:shape(), ", ")))
  end
  return mask.set(x:reshape(x:shape()), m:dtype() == "bool" and m or m:ne(0))
end

--- The results y, ... of a layer, y with the mask of x.
function mask.pass(x, y, ...)
  local m = masks[x]
  if m and masks[y] == nil then masks[y] = m end
  return y, ...
end

return mask
