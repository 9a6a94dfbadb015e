"""A hub on this machine for benchmarks: as much of its protocol as a fetch of LFS files needs."""
import hashlib, http.server, json, re, threading

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def hub(files):
    """Serves files by name as the model org/model: its port, the paths that were asked for, and the bytes of content
    that were sent (a list of one number)."""
    asked, sent = [], [0]
    lock = threading.Lock()
    tree = json.dumps([{"type": "file", "path": name, "oid": "0" * 40, "size": len(body),
                        "lfs": {"oid": hashlib.sha256(body).hexdigest(), "size": len(body)}} for name, body in files.items()]).encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, body, status=200, headers=()):
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            asked.append(self.path)
            path = self.path.split("?")[0]
            if "/revision/" in path:
                return self.answer(json.dumps({"sha": COMMIT}).encode())
            if "/tree/" in path:
                return self.answer(tree)
            body = files.get(path.split("/")[-1])
            if body is None:
                return self.answer(b"", 404)
            part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            first, last = (int(part[1]), min(int(part[2]), len(body) - 1)) if part else (0, len(body) - 1)
            with lock:
                sent[0] += last + 1 - first
            self.answer(memoryview(body)[first:last + 1], 206, [("Content-Range", f"bytes {first}-{last}/{len(body)}")])

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.request_queue_size = 512
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1], asked, sent
