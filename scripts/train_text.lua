-- Tell what sentences mean from the order of their words: `nnlua train_text.lua` trains an LSTM on generated opinions ("the food was not bad but the
-- music was dull") to say whether they praise; `--data FILE` takes a file with a label, a tab and a text on each line. The last line printed is the
-- accuracy on a fifth that was kept back, beside that of a network which only counts the words.
-- With default options, seeds 1 to 3: 1.0000 each; of counted words 0.8060, 0.8175, 0.8025.
local nn = require "nnlua"

local opt, must = nn.script(arg, {
  about = "Train an LSTM to classify sentences.",
  { "data", "string", value = "FILE", help = "lines of a label, a tab and a text; by default opinions are generated" },
  { "sentences", "integer", default = 10000, min = 50, help = "how many are generated" },
  { "words", "integer", default = 10000, min = 3, help = "size of the vocabulary at most" },
  { "length", "integer", default = 40, min = 1, help = "words that are read of a text" },
  { "width", "integer", default = 32, min = 1, help = "features of a word" },
  { "hidden", "integer", default = 64, min = 1, help = "units of the LSTM" },
  { "epochs", "integer", default = 5, min = 1, help = "passes over the training texts" },
  { "batch", "integer", default = 64, min = 1, help = "texts per step" },
  { "lr", "number", default = 3e-3, above = 0, help = "learning rate of Adam" },
  { "save", "string", value = "FILE", help = "write a checkpoint after each epoch" },
  { "resume", "string", value = "FILE", help = "go on from a checkpoint; --epochs counts from the very beginning" },
})

local texts, labels = {}, {}

-- Lists of texts and of their labels, filled from a file.
local function read(path)
  local number = 0
  for line in must(io.open(path, "r")):lines() do
    number = number + 1
    local label, text = line:match "^([^\t]+)\t(.*%S.*)$"
    must(label, ("%s:%d: expected a label, a tab and a text"):format(path, number))
    texts[#texts + 1], labels[#labels + 1] = text, label
  end
  must(#texts >= 5 or nil, path .. ": fewer than five texts")
end

-- Praise or blame hangs on the word, on what denies it, and on which of two parts has the last say.
local function generate(count)
  local good, bad = { "good", "great", "lovely", "fine", "pleasant", "superb" }, { "bad", "awful", "dull", "terrible", "poor", "weak" }
  local thing = { "film", "food", "hotel", "book", "show", "music" }
  local before = { "", "", "to be honest ", "in my opinion ", "well, after all that we had heard " }
  local draws, at = nn.rand(count, 16):totable(), nil
  local function any(words)
    at.place = at.place + 1
    return words[math.floor(at[at.place] * #words) + 1]
  end
  local function part()
    local praise = any { true, false }
    local said = any { "was %s", "was very %s", "was not %s", "was never %s" }
    return said:format(any(praise and good or bad)), praise ~= (said:find " n" ~= nil)
  end
  for i = 1, count do
    at = draws[i]
    at.place = 0
    local first, praise = part()
    local text = ("%sthe %s %s"):format(any(before), any(thing), first)
    if any { true, false } then
      local second, other = part()
      local joint = any { " but the %s %s", " although the %s %s" }
      text = text .. joint:format(any(thing), second)
      if joint:find "but" then praise = other end
    end
    texts[i], labels[i] = text .. any { ".", "!", "" }, praise and "praise" or "blame"
  end
end

if opt.data then read(opt.data) else generate(opt.sentences) end
local encoder = nn.data.LabelEncoder.fit(labels)
local order, last = nn.randperm(#texts):totable(), #texts * 4 // 5

-- The texts of places first to last of the random order, and their class ids.
local function part(first, final)
  local some, ids = {}, {}
  for i = first, final do some[#some + 1], ids[#ids + 1] = texts[order[i]], encoder:encode(labels[order[i]]) end
  return some, nn.tensor(ids, { dtype = "i64" })
end
local train, y_train = part(1, last)
local test, y_test = part(last + 1, #texts)

-- Trains a model on what `words` makes of the texts; returns its accuracy on the test.
local function accuracy(words, model, given)
  local x_train, x_test = words:adapt(train)(train), words(test)
  model:compile { optimizer = nn.optim.Adam { lr = opt.lr }, loss = "sparse_categorical_crossentropy", from_logits = true, metrics = { "accuracy" } }
  given[1], given[2], given.batch_size, given.epochs, given.validation = x_train, y_train, opt.batch, opt.epochs, { x_test, y_test }
  model:fit(given)
  return select(2, model:evaluate(x_test, y_test)).accuracy
end

local words = nn.TextVectorization { opt.words, output_sequence_length = opt.length }:adapt(train)
local known = #words:vocabulary()
local model = nn.Sequential {
  nn.Input { opt.length }, nn.Embedding { known, opt.width, mask_zero = true }, nn.LSTM { opt.hidden }, nn.Dropout { 0.2 }, nn.Dense { #encoder } }
model:summary()
local read_in_order = accuracy(words, model, { save = opt.save, resume = opt.resume })
local counted = accuracy(nn.TextVectorization { opt.words, output_mode = "count" },
  nn.Sequential { nn.Input { known }, nn.Dense { 32, activation = "relu" }, nn.Dense { #encoder } }, { verbose = 0 })
print(("%q is %s"):format(test[1], encoder:decode(model:predict(words(test[1])):argmax(2):item())))
print(("test accuracy %.4f, of counted words %.4f"):format(read_in_order, counted))
