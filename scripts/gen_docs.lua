-- Writes docs/ops.md, docs/library.md, docs/reference/ and docs/nnlua.d.lua from the operator tables and the library:
-- `nnlua scripts/gen_docs.lua`. The pages of the library are made in gen_reference.lua.
-- With --check it writes nothing, and ends with code 1 when a file is not what it would write (tests/docs_spec.lua).
local nn = require "nnlua"

require "nnlua.functional" -- its rows are in the order of loading, so before all else
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local reference = assert(loadfile(here .. "gen_reference.lua", "t"))(nn)
local root = assert(debug.getinfo(1, "S").source:match "^@(.*)scripts/gen_docs%.lua$", "run it from the source tree")
if root == "" then root = "./" end

local function read(path)
  local f = assert(io.open(root .. path, "rb"))
  local text = f:read "a"
  f:close()
  return text
end

-- ---- the tables ------------------------------------------------------------------------------------------------------

-- Headings and the order of rows are only in the .def files: comments `/* -- title -- */`, or `/* -- file.c: title -- */`.
local function sections(path)
  local list = {}
  for line in read(path):gmatch "[^\n]+" do
    local title, row = line:match "^/%* %-%- (.-) %-%- %*/", line:match "^NN_%u+%(([%w_]+),"
    if title then
      local file, text = title:match "^(%w+)%.c:?%s*(.*)$"
      if file then title = text == "" and file or file .. ": " .. text end
      list[#list + 1] = { title = title:sub(1, 1):upper() .. title:sub(2) }
    elseif row then
      table.insert(list[#list], row)
    end
  end
  return list
end

-- Kind in a signature -> its name in ops.md, its type for an editor.
local kinds = {
  ["T"] = { nil, "nnlua.Tensor" },
  ["T|F"] = { "tensor or number", "nnlua.Tensor|number" },
  ["T|D"] = { "tensor or dim", "nnlua.Tensor|integer" },
  ["TI"] = { "positions", "nnlua.Tensor|integer[]" },
  ["TL"] = { "tensors", "nnlua.Tensor[]" },
  ["F"] = { "number", "number" },
  ["I"] = { "integer", "integer" },
  ["B"] = { "boolean", "boolean" },
  ["IL"] = { "integers", "integer[]" },
  ["PL"] = { "positions", "integer[]" },
  ["I2"] = { "pair", "integer|integer[]" },
  ["Y"] = { "dtype", "nnlua.dtype" },
  ["D"] = { "dim", "integer" },
  ["DL"] = { "dims", "integer|integer[]" },
  ["S"] = { "word", "string" },
  ["PAD"] = { "padding", '"valid"|"same"|integer|integer[]' },
}

-- A default as it is written in Lua: dims count from 1 there.
local function default_text(kind, text)
  if kind == "D" and not text:find "^%-" then return tostring(math.tointeger(text) + 1) end
  if kind == "Y" or kind == "PAD" or kind == "S" then return ("%q"):format(text) end
  if text == "inf" then return "math.huge" elseif text == "-inf" then return "-math.huge" end
  return text
end

-- "T x, DL? dim, B keepdim = false -> T" as a list of { kind, name, optional, default }, and the number of results.
local function parse(signature)
  local arguments, results = signature:match "^(.-)%s*%->%s*(.*)$"
  local list = {}
  for part in (arguments or signature):gmatch "[^,]+" do
    local kind, mark, name, default = part:match "^%s*([%u%d|]+)(%??)%s+([%w_]+)%s*=?%s*(.-)%s*$"
    assert(kind and kinds[kind], signature)
    list[#list + 1] = { kind = kind, name = name, default = default ~= "" and default_text(kind, default) or nil,
      optional = mark == "?" or default ~= "" }
  end
  return list, results and select(2, results:gsub("%a+", "")) or 1
end

local ops = {}
for _, op in ipairs(nn.ops()) do
  op.arguments, op.results = parse(op.signature)
  ops[op.name] = op
end

-- Lua's words cannot be names in a stub.
local words = { ["and"] = true, ["or"] = true, ["not"] = true, ["end"] = true, ["repeat"] = true, ["in"] = true }
local function plain(name) return words[name] and name .. "_" or name end

-- ---- ops.md ----------------------------------------------------------------------------------------------------------

local function call_text(op)
  local out = {}
  for i, a in ipairs(op.arguments) do
    local kind = kinds[a.kind][1]
    out[i] = a.name .. (a.optional and not a.default and "?" or "") .. (kind and a.kind ~= "B" and ": " .. kind or "")
      .. (a.default and " = " .. a.default or "")
  end
  return ("%s(%s)"):format(op.name, table.concat(out, ", "))
end

local function cell(text) return (text:gsub("|", "\\|")) end

-- Kinds of the signatures of operators written in Lua (lua/nnlua/functional/define.lua) that differ from the core's.
local lua_kinds = { I1 = "integer", I2 = "pair", I3 = "triple", P1 = "padding", P2 = "padding", P3 = "padding", D = "dim", IL = "integers",
  ["F*"] = "number or numbers", TT = "tensor or list", TBL = "table", ["T|F"] = "tensor or number", TL = "tensors", FN = "function",
  ["I|IL"] = "integer or integers", Y = "dtype" }

local function lua_call_text(op)
  local out = {}
  for part in op.signature:gmatch "[^,]+" do
    local kind, mark, rest = part:match "^%s*([^%s?]+)(%??)%s+(.-)%s*$"
    local name, default = rest:match "^([%w_]+)%s*(.*)$"
    local choices = kind:match "^S%((.*)%)$"
    local text = choices and choices:gsub("|", " or ") or lua_kinds[kind]
    out[#out + 1] = name .. mark .. (text and ": " .. text or "") .. (default ~= "" and " " .. default or "")
  end
  return ("%s(%s)"):format(op.name, table.concat(out, ", "))
end

-- What lua/nnlua/core.d.lua has, in order: { section =, name =, call =, doc = }.
local function handwritten()
  local list, section, doc = {}, nil, {}
  for line in read "lua/nnlua/core.d.lua":gmatch "[^\n]+" do
    local text = line:match "^%-%-%- (.*)$"
    local owner, name, arguments = line:match "^function (%a+[.:])([%w_]+)(%b()) end"
    section = line:match "^%-%- %-%-%-%- (.-) %-+$" or section
    if text then
      doc[#doc + 1] = text
    elseif name then
      list[#list + 1] = { section = section, name = owner == "nn." and name or nil, call = (owner == "nn." and "nn." or "x:") .. name .. arguments,
        doc = table.concat(doc, " ") }
    end
    if not line:find "^%-%-%-" then doc = {} end
  end
  return list
end

local function ops_page(all)
  local out = { [[
# Operators

Generated by `scripts/gen_docs.lua` from `runtime/ops/*.def`; do not edit.

Each is a function, and a method where the first argument is a tensor: `nn.sum(x, 2)` is `x:sum(2)`. Arguments stand in the order shown, or by
name in a last table: `x:sum{dim = 2, keepdim = true}`. What is not marked is a tensor; `?` may be left out. **dim**: from 1, or -1 for the last;
**dims**: one or a list; **positions**: from 1, a tensor of integers or a list (-1 is the last in `x[...]` and `index_put`, an error elsewhere);
**pair**: one integer or two; **word**: a string; **padding**: `"valid"`, `"same"`, an integer, `{height, width}` or
`{top, left, bottom, right}`; **dtype**: `"bool"`, `"u8"`, `"i32"`, `"i64"`, `"f16"`, `"bf16"`, `"f32"`, `"f64"`. Images are (N, H, W, C). A `·` in
the last column: it has no gradient. `a + b`, `a - b`, `a * b`, `a / b`, `a ^ b` and `-a` are `add`, `sub`, `mul`, `div`, `pow` and `neg`.
]] }
  for _, section in ipairs(all) do
    out[#out + 1] = ("## %s\n\n| Call | Result | |\n|---|---|---|"):format(section.title)
    for _, name in ipairs(section) do
      local op = ops[name]
      out[#out + 1] = ("| `%s` | %s | %s |"):format(cell(call_text(op)), cell(op.doc), op.differentiable and "" or "·")
    end
    out[#out + 1] = ""
  end
  out[#out + 1] = "## Written in Lua\n\n**triple**: one integer or three. **padding** as above, or pads before the axes and "
    .. "then those behind.\n\n| Call | Result |\n|---|---|"
  for _, op in ipairs(require("nnlua.functional").rows) do
    out[#out + 1] = ("| `%s` | %s |"):format(cell(lua_call_text(op)), cell(op.doc))
  end
  for _, title in ipairs { "making tensors", "sums of products", "gradients" } do
    out[#out + 1] = ("\n## %s\n\n| Call | Result |\n|---|---|"):format((title:gsub("^%l", string.upper)))
    for _, f in ipairs(handwritten()) do
      if f.section == title then out[#out + 1] = ("| `%s` | %s |"):format(cell(f.call), cell(f.doc)) end
    end
  end
  out[#out + 1] = ""
  return table.concat(out, "\n")
end

-- ---- nnlua.d.lua -----------------------------------------------------------------------------------------------------

local function results_text(op)
  local out = {}
  for i = 1, op.results do out[i] = "nnlua.Tensor" end
  return table.concat(out, ", ")
end

local function options_text(op, from)
  local fields, first = {}, nil
  for i = from, #op.arguments do
    local a = op.arguments[i]
    if a.optional then
      first = first or i
      fields[#fields + 1] = ("%s?: %s"):format(plain(a.name), kinds[a.kind][2])
    end
  end
  if not first or first <= 1 then return end
  local given = {}
  for i = 1, first - 1 do given[i] = ("%s: %s"):format(plain(op.arguments[i].name), kinds[op.arguments[i].kind][2]) end
  return ("---@overload fun(%s, options: { %s }): %s"):format(table.concat(given, ", "), table.concat(fields, ", "), results_text(op))
end

local function stub(op)
  local names, out = {}, { "--- " .. op.doc }
  for i, a in ipairs(op.arguments) do
    names[i] = plain(a.name)
    local note = a.default and ("default %s"):format(a.default) or ""
    out[#out + 1] = (("---@param %s%s %s %s"):format(names[i], a.optional and "?" or "", kinds[a.kind][2], note):gsub("%s+$", ""))
  end
  out[#out + 1] = "---@return " .. results_text(op)
  out[#out + 1] = options_text(op, 2)
  out[#out + 1] = ("function nn.%s(%s) end"):format(op.name, table.concat(names, ", "))
  out[#out + 1] = ("Tensor.%s = nn.%s\n"):format(op.name, op.name)
  return table.concat(out, "\n")
end

local lua_types = { T = "nnlua.Tensor", B = "boolean", F = "number", I = "integer", D = "integer", S = "string", IL = "integer|integer[]",
  ["T|F"] = "nnlua.Tensor|number", ["F*"] = "number|number[]", TT = "nnlua.Tensor|number[]", TL = "nnlua.Tensor[]", TBL = "table",
  ["I|IL"] = "integer|integer[]", Y = "nnlua.dtype", FN = "function", I1 = "integer",
  I2 = "integer|integer[]", I3 = "integer|integer[]", P1 = 'integer|integer[]|"valid"|"same"' }
lua_types.P2, lua_types.P3 = lua_types.P1, lua_types.P1

local function lua_stub(op)
  local names, out = {}, { "--- " .. op.doc }
  for part in op.signature:gmatch "[^,]+" do
    local kind, mark, rest = part:match "^%s*([^%s?]+)(%??)%s+(.-)%s*$"
    local name, default = rest:match "^([%w_]+)%s*=?%s*(.*)$"
    local choices = kind:match "^S%((.*)%)$"
    local type_text = choices and '"' .. choices:gsub("|", '"|"') .. '"' or lua_types[kind]
    names[#names + 1] = plain(name)
    local optional = (mark ~= "" or default ~= "") and "?" or ""
    out[#out + 1] = ("---@param %s%s %s%s"):format(plain(name), optional, type_text, default ~= "" and " default " .. default or "")
  end
  out[#out + 1] = "---@return " .. ("nnlua.Tensor, "):rep(op.results - 1) .. (op.list and "nnlua.Tensor[]" or "nnlua.Tensor")
  out[#out + 1] = ("function nn.%s(%s) end%s"):format(op.name, table.concat(names, ", "), op.method and "" or "\n")
  if op.method then out[#out + 1] = ("Tensor.%s = nn.%s\n"):format(op.name, op.name) end
  return table.concat(out, "\n")
end

-- Names of the library that the sources annotate as classes.
local function annotated()
  local found = {}
  local list = assert(io.popen(("find '%slua/nnlua' -name '*.lua' | sort"):format(root)))
  for path in list:lines() do
    for name in read(path:sub(#root + 1)):gmatch "%-%-%-@class nnlua%.([%w_]+)" do found[name] = true end
  end
  list:close()
  return found
end

local function library_fields()
  local types, core, out, names = reference.types(), require "nnlua.core", {}, {}
  local stubbed = {}
  for _, op in ipairs(require("nnlua.functional").rows) do stubbed[op.name] = true end
  for _, f in ipairs(handwritten()) do stubbed[f.name or ""] = true end
  for name in pairs(nn) do
    if core[name] == nil and not stubbed[name] then names[#names + 1] = name end
  end
  table.sort(names)
  for _, name in ipairs(names) do out[#out + 1] = ("---@field %s %s"):format(name, types[name] or type(nn[name])) end
  return table.concat(out, "\n")
end

local function stubs(all)
  local out = { ([[
---@meta nnlua
-- What an editor shows for operators and names of the library. Generated by scripts/gen_docs.lua from runtime/ops/*.def and lua/nnlua; do not edit.
-- lua/nnlua/core.d.lua, written by hand, has what is no operator. Give the Lua language server this folder and lua/ as `workspace.library`.

---@class nnlua
%s
local nn = {}

---@class nnlua.Tensor
local Tensor = {}
]]):format(library_fields()) }
  for _, section in ipairs(all) do
    out[#out + 1] = ("-- ---- %s\n"):format(section.title)
    for _, name in ipairs(section) do out[#out + 1] = stub(ops[name]) end
  end
  out[#out + 1] = "-- ---- Written in Lua (nnlua.functional)\n"
  for _, op in ipairs(require("nnlua.functional").rows) do
    if not ops[op.name] then out[#out + 1] = lua_stub(op) end
  end
  out[#out + 1] = reference.stubs(annotated())
  out[#out + 1] = "return nn\n"
  return table.concat(out, "\n")
end

-- ---- writing ---------------------------------------------------------------------------------------------------------

local all = {}
for _, file in ipairs { "runtime/ops/pointwise.def", "runtime/ops/structural.def" } do
  for _, section in ipairs(sections(file)) do
    for _, name in ipairs(section) do ops[name].placed = true end
    all[#all + 1] = section
  end
end
for name, op in pairs(ops) do assert(op.placed, name .. " stands in no section of the .def files") end

local stale, pages = {}, reference.pages(root)
pages["docs/ops.md"], pages["docs/nnlua.d.lua"] = ops_page(all), stubs(all)
for path, text in pairs(pages) do
  local f = io.open(root .. path, "rb")
  local before = f and f:read "a"
  if f then f:close() end
  if before ~= text then
    stale[#stale + 1] = path
    if arg[1] ~= "--check" then
      f = assert(io.open(root .. path, "wb"))
      assert(f:write(text))
      assert(f:close())
    end
  end
end
table.sort(stale)
if arg[1] == "--check" and #stale > 0 then
  io.stderr:write(table.concat(stale, ", "), " is not what the tables say; run nnlua scripts/gen_docs.lua\n")
  os.exit(1, true)
end
if #stale > 0 then print("wrote " .. table.concat(stale, ", ")) end
