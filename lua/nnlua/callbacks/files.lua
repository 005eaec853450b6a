--- Callbacks that write files: Checkpoint, Resume, CSVLogger, JSONLogger, TensorBoard.
--
-- Owns: names of those files and what is in the logs. A file that cannot be written ends training with a message that names it.

local core = require "nnlua.core"
local options = require "nnlua.options"
local base = require "nnlua.callbacks.base"

local M = {}

local function check(ok, what, message)
  if not ok then options.raise(("%s: %s"):format(what, tostring(message))) end
  return ok
end

-- ---- Checkpoint and Resume -------------------------------------------------------------------------------------------

--- Write the model after each epoch, or every `every` epochs, or when the figure `best` is better than ever:
--- `nn.callbacks.Checkpoint{"m.h5", best = "val_loss"}`. With `batches = n` also after every n-th batch of an epoch: `fit{ resume = }` goes on from
--- there to the bit. The name may hold `{epoch}`, `{step}`, `{epoch:03d}`, `{val_loss:.3f}`; then `keep` says how many of the newest files stay.
--- The newest file whose figures were all finite is neither removed nor written over by one whose figures are not.
---@class nnlua.Checkpoint: nnlua.Callback
---@overload fun(options: { [1]: string, best?: string, mode?: string, every?: integer, batches?: integer, keep?: integer }): nnlua.Checkpoint
local Checkpoint = base.define("Checkpoint", {
  file = { "string", position = 1, required = true }, best = { "string" },
  mode = { "string", default = "auto", choices = { "auto", "min", "max" } },
  every = { "integer", default = 1, min = 1 }, batches = { "integer", min = 1 }, keep = { "integer", min = 1 },
})
M.Checkpoint = Checkpoint

function Checkpoint:checked()
  self.monitor, self.files = self.best, {}
  if self.keep and not self.file:find "{" then
    options.raise "Checkpoint: keep needs a name that differs from epoch to epoch, such as m-{epoch}.h5"
  end
  if self.best and self.batches then options.raise "Checkpoint: the best is known after an epoch; leave out batches or best" end
end

function Checkpoint:on_train_begin()
  local folder = self.file:match "^(.*/)[^/]*$" or "."
  check(core.sys.file_type(folder) == "folder", "Checkpoint", "there is no folder " .. folder)
end

--- The file of an epoch.
function Checkpoint:name_for(epoch, logs, step)
  return (self.file:gsub("{([%w_]+):?([^}]*)}", function(name, form)
    local whole = name == "epoch" and epoch or name == "step" and step
    local value = whole or base.figure(self, name, logs) or 0 / 0
    return ("%" .. (form ~= "" and form or whole and "d" or ".4f")):format(value)
  end))
end

local function all_finite(logs)
  for _, value in pairs(logs) do
    if type(value) == "number" and (value ~= value or math.abs(value) == math.huge) then return false end
  end
  return true
end

local function check_saved(model, file, what)
  local ok, message = model:save(file)
  check(ok, what, message)
end

-- Removes the oldest files beyond `keep`: not the newest, and not the newest with finite figures.
local function drop_oldest(self)
  local i = 1
  while self.keep and #self.files > self.keep and i < #self.files do
    if self.files[i] == self.finite then
      i = i + 1
    else
      os.remove(table.remove(self.files, i))
    end
  end
end

local function write_model(self, model, epoch, logs)
  local file, finite = self:name_for(epoch, logs, model.compiled.optimizer.iterations), all_finite(logs)
  if not finite and file == self.finite then
    warn(("nnlua: Checkpoint: the figures of epoch %d are not finite; %s stays as it was before"):format(epoch, file))
    return
  end
  check_saved(model, file, "Checkpoint")
  for i, name in ipairs(self.files) do
    if name == file then table.remove(self.files, i) end
  end
  self.files[#self.files + 1] = file
  if finite then self.finite = file end
  drop_oldest(self)
end

function Checkpoint:on_epoch_saved(model, epoch, logs)
  if epoch % self.every ~= 0 then return end
  if self.best then
    local value = base.figure(self, self.best, logs)
    if not value or not base.better(self, value, self.value) then return end
    self.value = value
  end
  write_model(self, model, epoch, logs)
end

function Checkpoint:on_batch_saved(model, epoch, _, logs) write_model(self, model, epoch, logs) end

function Checkpoint:state() return { value = self.value, files = setmetatable(self.files, core.json_array), finite = self.finite } end

function Checkpoint:set_state(state) self.value, self.files, self.finite = state.value, state.files or {}, state.finite end

--- Go on from `file` when it is there, write it after each epoch (with `batches = n` also after every n-th batch) and on Ctrl-C, and remove it when
--- all epochs are done: a script with it can be stopped and started again at any time. Of a folder, where a Checkpoint writes, it goes on from the
--- newest file that can be read, and writes and removes nothing.
---@class nnlua.Resume: nnlua.Callback
---@overload fun(options: { [1]: string, batches?: integer, keep?: boolean }): nnlua.Resume
local Resume = base.define("Resume", {
  file = { "string", position = 1, required = true }, batches = { "integer", min = 1 }, keep = { "boolean", default = false } })
M.Resume = Resume

function Resume:on_fit(_, o)
  if o.save or o.resume then options.raise "Resume: fit has save or resume of its own; give one of them" end
  self.epochs = o.epochs
  local kind = core.sys.file_type(self.file)
  self.folder = kind == "folder"
  if self.folder then
    local files, message = require("nnlua.checkpoint").files_of(self.file)
    if not files then options.raise("Resume: " .. message) end
    if #files > 0 then o.resume = self.file end
  elseif kind == "file" then
    o.resume = self.file
  end
  if not self.folder then o.save = self.file end
end

function Resume:on_epoch_end(_, epoch) self.epoch = epoch end

function Resume:on_batch_saved(model, _, _, logs)
  if not self.folder and all_finite(logs) then check_saved(model, self.file, "Resume") end
end

function Resume:on_train_end(model)
  if self.folder or self.keep then return end
  if self.epoch == self.epochs or model.stop_training then os.remove(self.file) end
end

-- ---- logs ------------------------------------------------------------------------------------------------------------

local function open(self, what)
  local file, message = io.open(self.file, self.append and "a" or "w")
  check(file, what, message)
  return file
end

local function write(file, what, text)
  local ok, message = file:write(text)
  if ok then ok, message = file:flush() end
  check(ok, what, message)
end

local log_options = { file = { "string", position = 1, required = true }, append = { "boolean", default = false } }

--- One line of figures per epoch, with a header: `nn.callbacks.CSVLogger{"log.csv"}`.
---@class nnlua.CSVLogger: nnlua.Callback
---@overload fun(options: { [1]: string, append?: boolean, separator?: string }): nnlua.CSVLogger
local CSVLogger = base.define("CSVLogger", {
  file = log_options.file, append = log_options.append, separator = { "string", default = "," } })
M.CSVLogger = CSVLogger

function CSVLogger:on_train_begin()
  self.handle = open(self, "CSVLogger")
  self.columns = nil
  self.header = not (self.append and self.handle:seek "end" > 0)
end

function CSVLogger:on_epoch_end(_, epoch, logs)
  if not self.columns then
    self.columns = {}
    for name, value in pairs(logs) do
      if type(value) == "number" then self.columns[#self.columns + 1] = name end
      if type(value) == "number" and base.was_passed_over(logs) then self.columns[#self.columns + 1] = "val_" .. name end
    end
    table.sort(self.columns)
    if self.header then
      write(self.handle, "CSVLogger", table.concat({ "epoch", table.unpack(self.columns) }, self.separator) .. "\n")
    end
  end
  local words = { ("%d"):format(epoch) }
  for i, name in ipairs(self.columns) do words[i + 1] = logs[name] and ("%.9g"):format(logs[name]) or "" end
  write(self.handle, "CSVLogger", table.concat(words, self.separator) .. "\n")
end

function CSVLogger:on_train_end()
  self.handle:close()
  self.handle = nil
end

--- One JSON object per line and epoch: `{"epoch":1,"loss":0.5}`. NaN and infinity are null.
---@class nnlua.JSONLogger: nnlua.Callback
---@overload fun(options: { [1]: string, append?: boolean }): nnlua.JSONLogger
local JSONLogger = base.define("JSONLogger", log_options)
M.JSONLogger = JSONLogger

function JSONLogger:on_train_begin() self.handle = open(self, "JSONLogger") end

function JSONLogger:on_epoch_end(_, epoch, logs)
  local line = { epoch = epoch }
  for name, value in pairs(logs) do
    local finite = type(value) ~= "number" or value == value and math.abs(value) < math.huge
    line[name] = finite and value or core.json_null
  end
  write(self.handle, "JSONLogger", core.json_encode(line) .. "\n")
end

JSONLogger.on_train_end = CSVLogger.on_train_end

--- Figures and the learning rate for TensorBoard, in `folder`; those of validation in its folder "validation". Every `histograms` epochs histograms
--- of the weights, every `images` epochs kernels as pictures; `graph`: the layers of the model and its summary as text, at the start. With
--- `health =` a Health callback that stands before it, its figures too. Steps are epochs, or batches with `every`. `callback.train` is the writer
--- (nn.tensorboard), for more of your own: `board.train:image("samples", x, epoch)`.
---@class nnlua.TensorBoard: nnlua.Callback
---@overload fun(options: { [1]?: string, histograms?: integer, images?: integer, graph?: boolean, every?: integer }): nnlua.TensorBoard
local TensorBoard = base.define("TensorBoard", {
  folder = { "string", position = 1, default = "runs" }, histograms = { "integer", default = 0, min = 0 },
  images = { "integer", default = 0, min = 0 }, graph = { "boolean", default = true }, every = { "integer", min = 1 }, health = { "table" } },
  { histogram_freq = "histograms", write_images = "images", write_graph = "graph", log_dir = "folder" })
M.TensorBoard = TensorBoard

-- The layers and their table; a model whose forward is the user's has neither.
local function write_graph(writer, model)
  if not model.call_list or model:first_unbuilt() then return end
  writer:graph(model)
  writer:text("model", "```\n" .. model:summary_text { flops = false } .. "\n```", 0)
end

local MOST_IMAGES = 16

-- A weight as pictures between 0 and 1: a matrix as one, the kernel (H, W, in, out) of a convolution as one for each of its first outputs, in
-- colours where it has three inputs, else averaged over them. Nil for other weights.
local function pictures(w)
  local _ <close> = core.no_grad()
  w = w:detach():float()
  local low, high = w:amin(), w:amax()
  w = (w - low) / core.maximum(high - low, 1e-12)
  if w:dim() == 2 then return w end
  if w:dim() ~= 4 then return nil end
  w = w:permute(4, 1, 2, 3):narrow(1, 1, math.min(MOST_IMAGES, w:size(4)))
  return w:size(4) == 3 and w or w:mean(4, true)
end

local function write_images(writer, model, epoch)
  for _, w in ipairs(model:named_parameters()) do
    local picture = w.tensor:dim() > 1 and pictures(w.tensor)
    if picture then writer:image(w.name, picture, epoch) end
  end
end

function TensorBoard:on_train_begin(model)
  local open_writer = require("nnlua.tensorboard").open
  self.train = check(open_writer(self.folder))
  self.validation = nil
  self.open_writer = open_writer
  if self.graph then write_graph(self.train, model) end
end

function TensorBoard:on_batch_end(model, batch)
  if not self.every or batch % self.every ~= 0 then return end
  for i, meter in ipairs(model.compiled.meters) do
    local value = meter:result()
    if type(value) == "number" then self.train:scalar("batch_" .. model.compiled.names[i], value, model.compiled.optimizer.iterations) end
  end
end

function TensorBoard:on_epoch_end(model, epoch, logs)
  for name, value in pairs(logs) do
    local own = name:match "^val_(.*)$"
    if own and not self.validation then self.validation = check(self.open_writer(self.folder .. "/validation")) end
    if type(value) == "number" then (own and self.validation or self.train):scalar("epoch_" .. (own or name), value, epoch) end
  end
  self.train:scalar("learning_rate", model.compiled.optimizer.lr, epoch)
  if self.histograms > 0 and epoch % self.histograms == 0 then
    for _, w in ipairs(model:weights()) do self.train:histogram(w.name, w.tensor, epoch) end
  end
  if self.images > 0 and epoch % self.images == 0 then write_images(self.train, model, epoch) end
  for _, row in ipairs(self.health and self.health.rows or {}) do
    for _, what in ipairs { "dead", "saturated", "gradient", "weight", "ratio" } do
      if row[what] then self.train:scalar(("health/%s/%s"):format(row.name, what), row[what], epoch) end
    end
  end
  check(self.train:flush())
  if self.validation then check(self.validation:flush()) end
end

function TensorBoard:on_train_end()
  self.train:close()
  if self.validation then self.validation:close() end
end

return M
