-- What specs need to serve files to the program themselves, on the loopback: a certificate of their own, and a server beside the spec.
local tls = {}

--- What a shell command prints.
function tls.shell(command)
  local p = assert(io.popen(command))
  local text = p:read "a"
  p:close()
  return text
end

--- Makes dir/key and dir/cert of a server called localhost; false where there is no openssl.
function tls.certificate(dir)
  if tls.shell "command -v openssl" == "" then return false end
  tls.shell(("cd '%s' && openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -days 2 -subj /CN=localhost "
    .. "-addext subjectAltName=DNS:localhost 2>&1"):format(dir))
  return true
end

--- Starts `command` in dir, where dir/log holds what it says; its process id, for stop().
function tls.start(dir, command)
  return tls.shell(("cd '%s' && (%s >log 2>&1 & echo $!)"):format(dir, command)):match "%d+"
end

function tls.stop(pid)
  if pid then os.execute("kill " .. pid) end
end

return tls
