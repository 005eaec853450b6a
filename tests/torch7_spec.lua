-- lua/nnlua/torch7.lua: files written here by the format's description, binary and ASCII; what is refused; damaged files.
local nn = require "nnlua"
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local mutation = dofile(here .. "mutation.lua")

-- A writer for each spelling: int, number, text, longs, raw elements.
local binary = { int = function(v) return string.pack("<i4", v) end, number = function(v) return string.pack("<d", v) end,
  text = function(s) return string.pack("<s4", s) end, longs = function(list) return string.pack(("<i8"):rep(#list), table.unpack(list)) end,
  raw = function(pack, list) return string.pack("<" .. pack:rep(#list), table.unpack(list)) end }
local function line(list)
  for i, v in ipairs(list) do list[i] = ("%.17g"):format(v) end
  return #list == 0 and "" or table.concat(list, " ") .. "\n"
end
local ascii = { int = function(v) return v .. "\n" end, number = function(v) return ("%.17g\n"):format(v) end,
  text = function(s) return #s .. "\n" .. s .. "\n" end, longs = line,
  raw = function(pack, list) return (pack == "B" or pack == "b") and string.pack(pack:rep(#list), table.unpack(list)) .. "\n" or line(list) end }

local function class(w, index, name, ...) return w.int(4) .. w.int(index) .. w.text "V 1" .. w.text(name) .. table.concat { ... } end
local function storage(w, index, name, pack, list) return class(w, index, "torch." .. name .. "Storage", w.longs { #list }, w.raw(pack, list)) end
local function tensor(w, index, name, size, stride, offset, inner)
  return class(w, index, "torch." .. name .. "Tensor", w.int(#size), w.longs(size), w.longs(stride), w.longs { offset }, inner)
end
local function str(w, s) return w.int(2) .. w.text(s) end
local function num(w, v) return w.int(1) .. w.number(v) end

local function everything(w)
  local pairs_of = {
    str(w, "x"), tensor(w, 2, "Float", { 2, 3 }, { 3, 1 }, 1, storage(w, 3, "Float", "f", { 1, 2, 3, 4, 5, 6, 7 })),
    str(w, "turned"), tensor(w, 4, "Float", { 3, 2 }, { 1, 3 }, 2, w.int(4) .. w.int(3)),
    str(w, "again"), w.int(4) .. w.int(2), str(w, "bytes"), tensor(w, 5, "Byte", { 3 }, { 1 }, 1, storage(w, 6, "Byte", "B", { 1, 10, 255 })),
    str(w, "long"), tensor(w, 7, "Long", { 2 }, { 1 }, 1, storage(w, 8, "Long", "i8", { -5, 1 << 40 })),
    str(w, "double"), tensor(w, 9, "Double", { 2 }, { 1 }, 1, storage(w, 10, "Double", "d", { 0.5, -1e300 })),
    str(w, "short"), tensor(w, 11, "Short", { 2 }, { 1 }, 1, storage(w, 12, "Short", "i2", { -3, 30000 })),
    str(w, "empty"), tensor(w, 13, "Float", {}, {}, 1, w.int(0)), str(w, "yes"), w.int(5) .. w.int(1), str(w, "no"), w.int(5) .. w.int(0),
    str(w, "pi"), num(w, 3.25), num(w, 1), str(w, "first"), str(w, "self"), w.int(3) .. w.int(1),
    str(w, "layer"), class(w, 14, "nn.Linear", w.int(3), w.int(15), w.int(1), str(w, "inplace"), w.int(5), w.int(0)), str(w, ""), str(w, ""),
  }
  return w.int(3) .. w.int(1) .. w.int(#pairs_of // 2) .. table.concat(pairs_of)
end

describe("Torch7's files", function()
  local file = os.tmpname()
  teardown(function() os.remove(file) end)
  local function load(bytes)
    local f = assert(io.open(file, "wb"))
    f:write(bytes)
    f:close()
    return nn.torch7.load(file)
  end

  for name, w in pairs { binary = binary, ASCII = ascii } do
    it("in " .. name .. " give tensors, tables and values", function()
      local t = assert(load(everything(w)))
      assert.same({ { 1, 2, 3 }, { 4, 5, 6 } }, t.x:totable())
      assert.equal("f32", t.x:dtype())
      assert.same({ { 2, 5 }, { 3, 6 }, { 4, 7 } }, t.turned:totable())
      assert.equal(t.x, t.again)
      assert.same({ 1, 10, 255 }, t.bytes:totable())
      assert.same({ -5, 1 << 40 }, t.long:totable())
      assert.same({ 0.5, -1e300 }, t.double:totable())
      assert.same({ "i32", "i64", "u8" }, { t.short:dtype(), t.long:dtype(), t.bytes:dtype() })
      assert.same({ 0 }, t.empty:shape())
      assert.same({ true, false, 3.25, "first", "" }, { t.yes, t.no, t.pi, t[1], t[""] })
      assert.equal(t, t.self)
      assert.same({ torch_typename = "nn.Linear", inplace = false }, t.layer)
      assert.equal(7, assert(load(num(w, 7))))
    end)

    it("in " .. name .. " are refused when they lie", function()
      local deep = num(w, 1)
      for i = 1, 70 do deep = w.int(3) .. w.int(i) .. w.int(1) .. num(w, 1) .. deep end
      local few = storage(w, 2, "Float", "f", { 1, 2 })
      for _, case in ipairs {
        { w.int(6) .. w.int(1), "bytecode" }, { w.int(8) .. w.int(1), "bytecode" }, { w.int(9), "unknown type" }, { deep, "nested" },
        { w.int(3) .. w.int(1) .. w.int(1 << 30), "pairs" }, { w.int(3) .. w.int(1) .. w.int(-1), "pairs" },
        { w.int(3) .. w.int(1) .. w.int(1) .. w.int(0) .. num(w, 1) .. num(w, 1), "key" }, { w.int(2) .. w.int(1 << 30), "text of" },
        { tensor(w, 1, "Float", { 3 }, { 1 }, 1, few), "beyond" }, { tensor(w, 1, "Float", { 2 }, { 1 }, 2, few), "beyond" },
        { tensor(w, 1, "Float", { 2 }, { 1 }, 0, few), "beyond" }, { tensor(w, 1, "Float", { 2 }, { -1 }, 2, few), "stride" },
        { tensor(w, 1, "Float", { 4, 4 }, { 0, 0 }, 1, few), "repeat" }, { tensor(w, 1, "Float", { -2 }, { 1 }, 1, few), "size" },
        { tensor(w, 1, "Float", { 1 << 40, 1 << 40 }, { 0, 0 }, 1, few), "too large" },
        { tensor(w, 1, "Float", { 2, 2 }, { 1 << 62, 1 }, 1, few), "beyond" },
        { tensor(w, 1, "Double", { 2 }, { 1 }, 1, few), "storage" }, { tensor(w, 1, "Float", { 2 }, { 1 }, 1, num(w, 1)), "storage" },
        { class(w, 1, "tds.Hash", num(w, 1)), "tds.Hash" }, { num(w, 1) .. w.int(7), "follow" }, { w.int(0), "nil" },
        { class(w, 1, "torch.FloatStorage", w.longs { 1 << 50 }), "storage of" },
      } do
        local value, message = load(case[1])
        assert.is_nil(value)
        assert.truthy(message:find(case[2], 1, true), message)
        assert.falsy(message:find("\n", 1, true))
      end
    end)

    it("in " .. name .. " that are damaged give an error or a value", function()
      local bytes = everything(w)
      mutation.sweep(bytes, load)
      for at = 1, #bytes - 2, 7 do assert.is_nil((load(bytes:sub(1, at)))) end
    end)
  end
end)
