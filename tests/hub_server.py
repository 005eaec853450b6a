# A server for hub_spec.lua: HTTPS on the loopback, with the faults that a path names. Arguments: certificate, key, where to write the port.
import http.server
import ssl
import sys
import time

BODY = b"0123456789abcdef" * 4096  # 64 KiB


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def send(self, code, headers, body=b""):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        path = self.path.split("?")[0].strip("/")
        what, _, more = path.partition("/")
        if what == "good":
            self.send(200, {"Content-Length": len(BODY)}, BODY)
        elif what == "file":  # one of the test's own
            with open(more.replace("/", "_"), "rb") as f:
                data = f.read()
            self.send(200, {"Content-Length": len(data)}, data)
        elif what == "cut":  # fewer bytes than announced
            self.send(200, {"Content-Length": len(BODY)}, BODY[: len(BODY) * int(more) // 10])
        elif what == "cut_unannounced":
            self.send(200, {}, BODY[:1000])
        elif what == "length":  # that is none
            self.send(200, {"Content-Length": more}, BODY)
        elif what == "announced":  # more than the limit, by its own word
            self.send(200, {"Content-Length": 1 << 40}, BODY)
        elif what == "endless":
            self.send(200, {})
            while True:
                self.wfile.write(BODY)
        elif what == "slow":
            self.send(200, {"Content-Length": len(BODY)})
            for i in range(60):
                self.wfile.write(b"x" * 200)
                self.wfile.flush()
                time.sleep(0.5)
        elif what == "redirect":
            where = {"http": "http://localhost:1/x", "file": "file:///etc/hostname", "ftp": "ftp://localhost/x", "loop": "/redirect/loop",
                     "good": "/good/b.bin"}[more]
            self.send(302, {"Location": where, "Content-Length": 0})
        elif what == "auth":
            ok = self.headers.get("Authorization") is not None
            self.send(200 if ok else 401, {"Content-Length": len(BODY)}, BODY)
        else:
            self.send(404, {"Content-Length": 9}, b"not found")


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *args):  # clients that hang up are what is tested
        pass


server = Server(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
with open(sys.argv[3] + ".new", "w") as f:
    f.write(str(server.server_address[1]))
import os  # noqa: E402

os.rename(sys.argv[3] + ".new", sys.argv[3])
server.serve_forever()
