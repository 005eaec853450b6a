--- Mixed precision: `nn.policy "mixed_float16"`. In which dtype layers compute.
--
-- Owns: the policy that new layers take, and what the policies mean. Under a mixed policy layers with a kernel (Dense, EinsumDense, convolutions)
-- compute in f16 or bf16: their input and their weights are cast when they are used, so the weights stay f32 and so do their gradients and the
-- optimizer's state. Norms, softmax and losses compute in f32 and so does the last sum of every product. One layer can differ:
-- `nn.Dense{10, dtype = "float32"}`.
--
--     local nn = require "nnlua"
--     nn.policy "mixed_float16"
--     local layer = nn.Dense{2}
--     nn.policy "float32"
--     print(layer(nn.ones(1, 3)):dtype(), layer.kernel:dtype())   --> f16  f32
--
-- Gradients in f16 need a loss scale: compile() switches it on for a model with such layers; a loop by hand asks for it:
-- `nn.optim.Adam{ net:parameters(), loss_scale = "dynamic" }`, then `opt:scale_loss(loss):backward()`. f16 and bf16 are for devices with fast
-- kernels for them; the CPU stores halves and computes in f32, so there it works and is no faster.

local options = require "nnlua.options"

local policy = {}

-- name -> dtype that layers with a kernel compute in, false for that of their input
local computes = { float32 = false, mixed_float16 = "f16", mixed_bfloat16 = "bf16" }
local current = "float32"

--- Names of the policies, in alphabetical order.
policy.names = { "float32", "mixed_bfloat16", "mixed_float16" }

--- The policy that new layers take; with a name, sets it and returns what it was.
---@param name? "float32"|"mixed_float16"|"mixed_bfloat16"
---@return string
function policy.policy(name)
  local before = current
  if name ~= nil then
    if computes[name] == nil then
      options.raise(("policy: unknown policy %s%s (valid: %s)"):format(options.shown(name), options.advice(name, policy.names),
        table.concat(policy.names, ", ")))
    end
    current = name
  end
  return before
end

--- The dtype that a layer made now under `name`, or under the current policy, computes in; nil: that of its input. Second: the name to remember, nil
--- where nothing differs from float32.
function policy.of_layer(name)
  local own = name or current
  if own == "float32" and current == "float32" then own = nil end
  return own and computes[own] or nil, own
end

--- The name in a configuration of ours or of Keras; nil when it is none of ours.
function policy.from_config(value)
  if type(value) == "table" then value = type(value.config) == "table" and value.config.name end
  return computes[value] ~= nil and value or nil
end

--- How Keras's files say it.
function policy.to_keras(name)
  if not name or name == "float32" then return "float32" end
  return { class_name = "Policy", config = { name = name } }
end

local halves = { f16 = true, bf16 = true }

--- x in f32 when it holds halves; second: whether it did.
function policy.single(x)
  if halves[x:dtype()] then return x:to "f32", true end
  return x, false
end

return policy
