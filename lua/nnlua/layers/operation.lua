--- Operation: an operator of tensors as a layer. Methods of symbolic tensors make them: `h:exp()`, `a / b`, `h:reshape{-1, 8}`.

local options = require "nnlua.options"
local Layer = require "nnlua.layer"
local symbolic = require "nnlua.symbolic"

local M = {}

--- `x:op(...)`: `nn.Operation{"exp"}(x)` is `x:exp()`. Dim 1 is the batch, as in the operator.
---@class nnlua.Operation: nnlua.Layer
---@overload fun(options: { [1]: string, name?: string }): nnlua.Operation
local Operation = Layer.define("Operation", { op = { "string", position = 1, required = true } })
M.Operation = Operation

function Operation:checked()
  if not symbolic.recordable(self.op) then options.raise(("Operation: tensors have no operator %s"):format(options.shown(self.op))) end
end

Operation.build_once = false -- its shapes are what the operator gives
function Operation:build_from() rawset(self, "built", true) end -- luacheck: no unused args

function Operation:forward(x, ...)
  local apply = symbolic.recordable(self.op)
  if type(x) == "number" then return require("nnlua.core")[self.op](x, ...) end -- 1 / x
  return apply(x, ...)
end

function Operation:detail() return self.op end

return M
