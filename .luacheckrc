-- What luacheck holds the Lua files to; scripts/test.sh runs it.
std = "lua54"
max_line_length = 150
exclude_files = { "build*/" }
files["tests/**/*_spec.lua"] = { std = "+busted" }
