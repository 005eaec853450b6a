--- Sound: `nn.audio` reads and writes WAV files.
--
-- Owns: files. Sound is f32 frames x channels, -1 to 1.
--
--     local nn = require "nnlua"
--     local tone = (nn.arange(0, 800) * (2 * math.pi * 440 / 8000)):sin():reshape{ -1, 1 } / 2
--     local back, rate = nn.audio.decode(nn.audio.encode(tone, 8000))
--     print(rate, back:size(1))                                        --> 8000  800

local core = require "nnlua.core"
local options = require "nnlua.options"

local audio = {}

--- The sound in the bytes of a WAV file (integers of 8, 16, 24, 32 bits, floats) and its rate in frames a second; or nil and a message.
---@param bytes string
---@return nnlua.Tensor?, integer|string
function audio.decode(bytes)
  if type(bytes) ~= "string" then options.raise("decode: needs the bytes of a file, got " .. options.shown(bytes)) end
  return core.imaging.wav_decode(bytes)
end

--- x (frames x channels, -1 to 1; what lies beyond is cut off) as the bytes of a WAV file of 16 bits.
---@param x nnlua.Tensor
---@param rate integer
---@return string
function audio.encode(x, rate)
  if not core.is_tensor(x) or math.type(rate) ~= "integer" then options.raise "encode: needs a tensor (frames x channels) and a rate (an integer)" end
  return core.imaging.wav_encode(x:detach():float(), rate)
end

--- decode of a file.
---@param file string
---@return nnlua.Tensor?, integer|string
function audio.load(file)
  local handle, message = io.open(file, "rb")
  if not handle then return nil, message end
  local bytes, why = handle:read "a"
  handle:close()
  if not bytes then return nil, ("%s: %s"):format(file, why) end
  local x, rate = audio.decode(bytes)
  if not x then return nil, ("%s: %s"):format(file, rate) end
  return x, rate
end

--- encode into a file, which is replaced as a whole: true, or nil and a message.
---@param file string
---@param x nnlua.Tensor
---@param rate integer
---@return boolean?, string?
function audio.save(file, x, rate) return core.file_replace(file, audio.encode(x, rate)) end

return audio
