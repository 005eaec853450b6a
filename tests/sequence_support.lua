-- What recurrent_layers_spec and attention_layers_spec share: files of models.
local nn = require "nnlua"

local assert = ... -- busted's, which a file that a spec loads does not see
local sequence = {}

--- A Sequential of `layers` saved and loaded is the same model to the bit, has the same configuration, and tells its shape without running.
function sequence.round_trip(layers, x)
  local model = nn.Sequential(layers):eval()
  local y = model(x)
  local shape = x:shape()
  assert.same(table.move(y:shape(), 2, y:dim(), 1, {}), model:output_shape(table.move(shape, 2, #shape, 1, {})))
  local file = os.tmpname()
  assert(model:save(file))
  local copy = assert(nn.load(file)):eval()
  os.remove(file)
  assert.same(y:totable(), copy(x):totable())
  assert.equal(tostring(model), tostring(copy))
  for i = 1, #model do
    assert.same(nn.options.shown(model[i]:config()), nn.options.shown(copy[i]:config()))
    assert.same(model[i]:config(), copy[i]:config())
  end
end

return sequence
