"""A kubelet that has logs and nothing else: /containerLogs/NAMESPACE/POD/CONTAINER is a file of a
directory. usage: kubelet.py DIRECTORY CERTIFICATE KEY; prints its port."""

import http.server
import os
import ssl
import sys
import threading
from urllib.parse import urlparse

directory, certificate, key = sys.argv[1:]


class Logs(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        parts = urlparse(self.path).path.strip("/").split("/")
        path = os.path.join(directory, "-".join(parts[1:]))
        found = parts[0] == "containerLogs" and os.path.isfile(path)
        body = open(path, "rb").read() if found else b"no such container"
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Logs)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
# Ends with whoever started it: their end of stdin closes.
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
