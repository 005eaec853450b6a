-- What luacheck holds the Lua files to; scripts/test.sh runs it.
std = "lua54"
max_line_length = 150
exclude_files = { "build*/", "docs/*.d.lua", "lua/nnlua/*.d.lua" }
files["tests/**/*_spec.lua"] = { std = "+busted" }
