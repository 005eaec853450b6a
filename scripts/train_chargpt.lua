-- Train a small transformer to write like a text, letter by letter: `nnlua train_chargpt.lua book.txt --steps 2000`, then let it write.
local nn = require "nnlua"

local opt, must = nn.script(arg, {
  about = "Train a character-level GPT on a text file and print what it writes.",
  { "text", "string", positional = true, required = true, help = "the text to learn from" },
  { "steps", "integer", default = 2000, min = 0, help = "optimizer steps" },
  { "batch", "integer", default = 32, min = 1, help = "pieces of text per step" },
  { "context", "integer", default = 64, min = 2, help = "bytes that the model sees" },
  { "layers", "integer", default = 4, min = 1, help = "transformer blocks" },
  { "width", "integer", default = 128, min = 4, help = "features, a multiple of the heads" },
  { "heads", "integer", default = 4, min = 1, help = "attention heads" },
  { "dropout", "number", default = 0.1, min = 0, below = 1, help = "share of features dropped" },
  { "lr", "number", default = 1e-3, above = 0, help = "learning rate of AdamW" },
  { "write", "integer", default = 300, min = 0, help = "bytes to write at the end" },
  { "prompt", "string", default = "\n", help = "how the writing begins" },
  { "temperature", "number", default = 0.8, above = 0, help = "below 1: keeps to what is likely" },
})

local file = must(io.open(opt.text, "rb"))
local text = must(file:read "a", "cannot read " .. opt.text)
must(#text > opt.context or nil, ("%s has %d bytes, --context needs more than %d"):format(opt.text, #text, opt.context))

-- Bytes that occur become ids 1, 2, ...
local letters, id_of_byte = {}, {}
for byte = 0, 255 do
  local letter = string.char(byte)
  if text:find(letter, 1, true) then letters[#letters + 1] = letter end
  id_of_byte[byte + 1] = math.max(1, #letters)
end
id_of_byte = nn.tensor(id_of_byte, { dtype = "i64" })
local function encode(s) return id_of_byte:take(nn.from_string(s, "u8", { #s }):long() + 1) end

local model = nn.Sequential { nn.Input { opt.context }, nn.TokenAndPositionEmbedding { #letters, opt.context, opt.width } }
for _ = 1, opt.layers do
  model:add(nn.TransformerDecoder { 4 * opt.width, opt.heads, dropout = opt.dropout, activation = "gelu", normalize_first = true })
end
model:add(nn.LayerNorm {}):add(nn.Dense { #letters })
model:summary()

-- A batch of pieces of the text; each letter's target is the one behind it.
local ids, places = encode(text), nn.arange(0, opt.context, 1, "i64")
local function batch()
  local first = nn.randint(1, #text - opt.context + 1, { opt.batch, 1 }) + places
  return ids:take(first), ids:take(first + 1)
end

local optimizer = nn.optim.AdamW { model:parameters(), lr = opt.lr, weight_decay = 0.01 }
local sum, since = nn.tensor(0), os.clock()
for step = 1, opt.steps do
  do
    local scope <close> = nn.scope() -- what a step makes ends with it
    local x, y = batch()
    local loss = nn.losses.cross_entropy(model(x), y)
    optimizer:zero_grad()
    loss:backward()
    nn.clip_grad_norm(model:parameters(), 1)
    sum = sum + loss:detach()
    scope:keep(sum)
  end
  optimizer:step()
  if step % 100 == 0 or step == opt.steps then
    local n = (step - 1) % 100 + 1
    print(("step %d  loss %.4f  %.1f ms of processor per step"):format(step, sum:item() / n, (os.clock() - since) / n * 1000))
    sum, since = nn.tensor(0), os.clock()
  end
end

-- Writing: the last letters go in, the next one is drawn.
model:eval()
local _ <close> = nn.no_grad()
local written = opt.prompt == "" and "\n" or opt.prompt
for _ = 1, opt.write do
  local seen = written:sub(-opt.context)
  local x = encode(seen .. ("\n"):rep(opt.context - #seen)) -- what is behind a letter does not change it
  local scores = model(x:reshape(1, opt.context))[{ 1, #seen }] / opt.temperature
  written = written .. letters[nn.multinomial(scores:softmax(), 1):item()]
end
print(written)
