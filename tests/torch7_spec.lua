-- lua/nnlua/torch7.lua: files written here by the format's description, binary and ASCII; what is refused; damaged files.
local nn = require "nnlua"
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"

local files = dofile(here .. "files.lua")
local t7 = dofile(here .. "fuzz/t7.lua")
local binary, ascii, everything = t7.binary, t7.ascii, t7.everything
local class, storage, tensor, num = t7.class, t7.storage, t7.tensor, t7.number

describe("Torch7's files", function()
  local file = os.tmpname()
  teardown(function() os.remove(file) end)
  local function load(bytes) return nn.torch7.load(files.write(file, bytes)) end

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

    it("in " .. name .. " that are cut are refused", function()
      local bytes = everything(w)
      for at = 1, #bytes - 2, 7 do assert.is_nil((load(bytes:sub(1, at)))) end
    end)
  end
end)
