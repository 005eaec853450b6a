-- Torch7 files written by the format's description, binary and ASCII: for torch7_spec.lua and the fuzz targets.
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

return { binary = binary, ascii = ascii, class = class, storage = storage, tensor = tensor, text = str, number = num, everything = everything }
