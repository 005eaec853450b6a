-- What a network's loss is after some steps, to be compared with PyTorch's: trains the benchmarks' ResNet-20 and GPT from several seeds, and writes
-- into a folder, for each of them, the initial weights (model_SEED.h5), the data, which of it each step saw, and the losses. losses_torch.py then
-- trains the same networks from there.
-- usage: nnlua bench/losses.lua FOLDER [--steps N] [--seeds N] [--batch N] [--lr X] [--text FILE] [--model resnet20|gpt]
local nn = require "nnlua"
local models = dofile((arg[0]:match "^(.*[/\\])" or "") .. "models.lua")

local opt, must = nn.script(arg, {
  about = "Losses of ResNet-20 and a GPT over steps, for losses_torch.py to compare.",
  { "folder", "string", positional = true, required = true, help = "an existing folder to write into" },
  { "steps", "integer", default = 100, min = 1, help = "optimizer steps" },
  { "seeds", "integer", default = 3, min = 1, help = "trainings, from --seed on" },
  { "batch", "integer", default = 32, min = 1, help = "images, or pieces of text, per step" },
  { "lr", "number", default = 0.005, above = 0, help = "of ResNet-20's SGD; at 0.02 rounding alone changes the losses of a seed by a tenth" },
  { "text", "string", default = "README.md", value = "FILE", help = "what the GPT reads" },
  { "model", "choice", choices = { "resnet20", "gpt" }, help = "one of them only" },
})
local CONTEXT, LETTERS = 64, 128

local function write(name, bytes)
  local file = must(io.open(opt.folder .. "/" .. name, "wb"))
  must(file:write(bytes))
  must(file:close())
end

-- For each model: how many places a sample can begin at, the batch (x, y) of a list of such places (from 1), the network, its optimizer.
local recipes = {}

-- Textures, in the format of CIFAR-10's binary files: a label byte, then three planes.
function recipes.resnet20()
  local count = 2000
  local images, ids = nn.datasets.textures { train = count, test = 1 }:batch(count):iter()()
  local planes = images:permute({ 1, 4, 2, 3 }):reshape { count, 3072 }
  write("resnet20.bin", nn.cat({ (ids - 1):byte():unsqueeze(-1), planes }, 2):tostring_bytes())
  local x = images:float() / 64 - 2
  return {
    places = count, make = models.ResNet,
    optimizer = function(model) return models.sgd(model, opt.lr) end,
    batch = function(at) return x:index_select(1, at), ids:take(at) end,
  }
end

function recipes.gpt()
  local file = must(io.open(opt.text, "rb"))
  local text = file:read("a"):gsub("[\x80-\xff]", "?")
  file:close()
  write("gpt.txt", text)
  local ids, steps = nn.from_string(text, "u8", { #text }):long() + 1, nn.arange(0, CONTEXT, 1, "i64")
  return {
    places = #text - CONTEXT,
    make = function() return models.GPT(LETTERS, 128, 4, 4, CONTEXT) end,
    optimizer = function(model) return nn.optim.Adam { model:parameters(), lr = 1e-3 } end,
    batch = function(at)
      local first = at:unsqueeze(-1) + steps
      return ids:take(first), ids:take(first + 1):reshape(-1)
    end,
  }
end

for _, name in ipairs(opt.model and { opt.model } or { "resnet20", "gpt" }) do
  local recipe = recipes[name]()
  for seed = opt.seed, opt.seed + opt.seeds - 1 do
    nn.seed(seed)
    local model, places, losses = recipe.make(), nn.randint(1, recipe.places + 1, { opt.steps, opt.batch }), {}
    model:build((recipe.batch(places[1])))
    must(model:save(("%s/%s_%d.h5"):format(opt.folder, name, seed), { user = { lr = opt.lr } }))
    write(("%s_%d.places"):format(name, seed), (places - 1):to("i32"):tostring_bytes())
    local step = models.stepper(model, recipe.optimizer(model))
    for i = 1, opt.steps do
      local x, y = recipe.batch(places[i])
      losses[i] = ("%.6f"):format(step(x, y, true))
    end
    write(("%s_%d.losses"):format(name, seed), table.concat(losses, "\n") .. "\n")
    print(("%s seed %d  loss of the first step %s, of the last %s"):format(name, seed, losses[1], losses[#losses]))
  end
end
