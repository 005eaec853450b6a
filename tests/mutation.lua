-- Damaged files for readers: mutation.sweep(bytes, count, read) calls read(changed) for `count` changes (bit flips, cuts, length fields, bytes put in and taken
-- away), drawn from a seed that is printed by a failure. NNLUA_FUZZ=<n> asks for n instead. A reader may give a result, or nil and one line.
local mutation = {}

local fields = { 0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, 0x7fffffffffffffff, -1, 1 << 40, 1 << 53 }

local function changed(bytes, random)
  for _ = 1, random(3) do
    local at, kind = random(math.max(1, math.min(#bytes, random(2) == 1 and 400 or #bytes))), random(6)
    local head, tail = bytes:sub(1, at - 1), bytes:sub(at + 1)
    if kind <= 2 then bytes = head .. string.char((bytes:byte(at) or 0) ~ (1 << random(0, 7))) .. tail
    elseif kind == 3 then bytes = head
    elseif kind == 4 then
      local packed = string.pack(random(2) == 1 and "<i8" or "<I4", fields[random(#fields)] & (random(2) == 1 and -1 or 0xffffffff) & 0xffffffff)
      bytes = head .. packed .. bytes:sub(at + #packed)
    elseif kind == 5 then bytes = head .. string.char(random(0, 255)):rep(random(9)) .. bytes:sub(at)
    else bytes = head .. bytes:sub(at + random(9)) end
  end
  return bytes
end

function mutation.sweep(bytes, read)
  local count = tonumber(os.getenv "NNLUA_FUZZ" or "") or 500
  local state = 88172645463325252 -- xorshift: the same changes for everybody
  local function random(a, b)
    if not b then a, b = 1, a end
    state = state ~ (state << 13)
    state = state ~ (state >> 7)
    state = state ~ (state << 17)
    return a + (state >> 11) % (b - a + 1)
  end
  local refused = 0
  for i = 1, count do
    local bad = changed(bytes, random)
    local began = os.clock()
    local ok, value, message = pcall(read, bad)
    assert(ok, ("change %d raised: %s"):format(i, tostring(value)))
    if value == nil then
      refused = refused + 1
      assert(type(message) == "string" and not message:find "\n", ("change %d: no line of text: %s"):format(i, tostring(message)))
    end
    assert(os.clock() - began < 5, ("change %d took seconds"):format(i))
  end
  assert(refused > count / 4, ("only %d of %d changes were refused"):format(refused, count))
  return count
end

return mutation
