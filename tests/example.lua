-- TFRecord's examples as bytes, by the description of Protocol Buffers: what the specs and the damaged files of tests/fuzz write.
local example = {}

function example.varint(v)
  local out = {}
  repeat
    local low = v & 127
    v = v >> 7
    out[#out + 1] = string.char(v ~= 0 and low | 128 or low)
  until v == 0
  return table.concat(out)
end

--- A field that holds bytes or a message.
function example.field(number, s) return example.varint(number << 3 | 2) .. example.varint(#s) .. s end
local field = example.field

--- tf.train.Example of features {name, what floats() or the like gave}, in this order.
function example.of(features)
  local entries = {}
  for _, f in ipairs(features) do entries[#entries + 1] = field(1, field(1, f[1]) .. field(2, f[2])) end
  return field(1, table.concat(entries))
end

--- A feature of floats, packed.
function example.floats(...) return field(2, field(1, ("<" .. ("f"):rep(select("#", ...))):pack(...))) end

return example
