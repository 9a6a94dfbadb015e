"""A node for tests: a kubelet that runs pods as real containers (runc) and carries `exec` to them.

usage: node.py DIRECTORY CERTIFICATE KEY SERVER TOKEN NODE PROGRAM

Runs every pod bound to NODE: its own mount, process and cgroup namespaces (unless hostPID), its
capabilities, its read-only root, its environment, its deadline. What is not of interest to
aictl it has not got: images (the machine's own /usr is every image; one called "missing…" can't
be pulled), networks, volumes but those in memory. DIRECTORY/share is /srv in every container, and
PROGRAM is `aictl` there. `exec` is spoken as the API server speaks it to kubelets: SPDY/3.1.

Prints its port. Commands on stdin, a line each: `drop` cuts all connections of `exec`, `joined` waits until there is
one; `refuse` and
`accept` set whether new ones are taken; `evict NAME` ends a pod as the kubelet does under pressure;
`kill NAME` kills its container; `vanish` is a node whose power fails: what is connected stays so and says
no more, what connects gets no answer, and no pod is looked after; `patience SECONDS` is how long agents started from now on wait for
a near end that is gone (a minute in life). Ends, with all it started, at the end of stdin.
"""

import hashlib
import http.server
import json
import os
import select
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import urllib.request
import zlib
from urllib.parse import parse_qs, urlparse

directory, certificate, key, server, token, node, program = sys.argv[1:]

# ---- the API server


def api(method, path, body=None, kind="application/json"):
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(server + path, data=data, method=method)
    request.add_header("Authorization", "Bearer " + token)
    request.add_header("Content-Type", kind)
    context = ssl._create_unverified_context()
    with urllib.request.urlopen(request, context=context, timeout=10) as answer:
        return json.load(answer)


def path_of(pod, below=""):
    meta = pod["metadata"]
    return f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}{below}"


def set_status(pod, status):
    if vanished.is_set():
        return
    try:
        api("PATCH", path_of(pod, "/status"), {"status": status}, "application/merge-patch+json")
    except Exception as error:
        print("status", pod["metadata"]["name"], error, file=sys.stderr)


# ---- containers

ALL = ["CAP_" + c for c in ["BPF", "PERFMON", "SYS_PTRACE", "SYS_ADMIN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "KILL"]]
runc = ["runc", "--root", os.path.join(directory, "runc")]
running = {}
patience = []


class Container:
    def __init__(self, pod):
        self.pod, self.name = pod, pod["metadata"]["name"]
        self.uid = pod["metadata"]["uid"]
        self.id = hashlib.sha256(self.uid.encode()).hexdigest()
        self.bundle = os.path.join(directory, "bundles", self.id)
        self.over = False
        self.began = time.time()

    def start(self):
        spec = self.pod["spec"]
        container = spec["containers"][0]
        rootfs = os.path.join(self.bundle, "rootfs")
        for name in ["usr", "etc", "proc", "sys", "dev", "tmp", "run/aictl", "srv", "opt/aictl", "opt/own", "var/lib/aictl"]:
            os.makedirs(os.path.join(rootfs, name), exist_ok=True)
        for name in ["bin", "lib", "lib64", "sbin"]:
            os.symlink("usr/" + name, os.path.join(rootfs, name))
        open(os.path.join(rootfs, "opt/aictl/aictl"), "w").close()
        environment = ["PATH=/opt/aictl:/usr/bin:/bin", "LANG=C.UTF-8"]
        environment += [f"{e['name']}={e.get('value', '')}" for e in container.get("env", [])]
        if "OWN_PYTHON" in str(environment):
            # An interpreter that is nowhere on the machine but in this container.
            shutil.copy(os.path.realpath("/usr/bin/python3"), os.path.join(rootfs, "opt/own/python3"))
        security = container.get("securityContext", {})
        capabilities = ["CAP_" + c for c in security.get("capabilities", {}).get("add", [])]
        if security.get("privileged"):
            capabilities = ALL
        bind = lambda source, to, *more: {"destination": to, "type": "bind", "source": source, "options": ["bind", *more]}
        namespaces = [{"type": "mount"}, {"type": "ipc"}, {"type": "uts"}]
        if not spec.get("hostPID"):
            namespaces.append({"type": "pid"})
        if os.path.exists("/proc/self/ns/cgroup"):
            namespaces.append({"type": "cgroup"})
        config = {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": security.get("runAsUser", 0), "gid": security.get("runAsUser", 0)},
                "args": container["command"] + (patience if "serve" in container["command"] else []),
                "env": environment,
                "cwd": "/",
                "capabilities": {k: capabilities for k in ["bounding", "effective", "permitted"]},
                "noNewPrivileges": not security.get("allowPrivilegeEscalation", True),
            },
            "root": {"path": "rootfs", "readonly": security.get("readOnlyRootFilesystem", False)},
            "hostname": self.name,
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro", "nosuid", "nodev", "noexec"]},
                {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
                {"destination": "/run/aictl", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]},
                {"destination": "/var/lib/aictl", "type": "tmpfs", "source": "tmpfs"},
                bind("/usr", "/usr", "ro"),
                bind("/etc", "/etc", "ro"),
                bind(os.path.join(directory, "share"), "/srv"),
                bind(program, "/opt/aictl/aictl", "ro"),
            ],
            "linux": {
                "namespaces": namespaces,
                "cgroupsPath": f"/kubepods/besteffort/pod{self.uid}/{self.id}",
                "resources": {"devices": [{"allow": True, "access": "rwm"}]},
                # What container runtimes hide by default.
                "maskedPaths": [] if security.get("privileged") else ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
                "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            },
        }
        with open(os.path.join(self.bundle, "config.json"), "w") as file:
            json.dump(config, file)
        log = open(os.path.join(directory, self.name + ".log"), "ab")
        self.process = subprocess.Popen([*runc, "run", "--bundle", self.bundle, self.id], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        set_status(self.pod, self.status("Running", {"running": {"startedAt": now()}}))
        threading.Thread(target=self.wait, daemon=True).start()

    def status(self, phase, state, **more):
        container = self.pod["spec"]["containers"][0]
        return {
            "phase": phase,
            "startTime": now(),
            "containerStatuses": [{
                "name": container["name"], "image": container["image"], "imageID": "", "restartCount": 0,
                "ready": phase == "Running", "containerID": "containerd://" + self.id, "state": state,
            }],
            **more,
        }

    def wait(self):
        code = self.process.wait()
        if not self.over:
            self.over = True
            phase = "Succeeded" if code == 0 else "Failed"
            reason = "Completed" if code == 0 else "Error"
            set_status(self.pod, self.status(phase, {"terminated": {"exitCode": code % 256, "reason": reason}}))

    def end(self, signal="KILL"):
        subprocess.run([*runc, "kill", self.id, signal], stderr=subprocess.DEVNULL)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
        subprocess.run([*runc, "delete", "-f", self.id], stderr=subprocess.DEVNULL)


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def look():
    while True:
        if vanished.is_set():
            return
        try:
            pods = api("GET", f"/api/v1/pods?fieldSelector=spec.nodeName%3D{node}")["items"]
        except Exception:
            time.sleep(0.2)
            continue
        there = {pod["metadata"]["uid"] for pod in pods}
        for pod in pods:
            step(pod)
        for uid in [uid for uid in running if uid not in there]:
            running.pop(uid).end()
        time.sleep(0.05)


def step(pod):
    uid, meta = pod["metadata"]["uid"], pod["metadata"]
    container = running.get(uid)
    if "deletionTimestamp" in meta:
        if container:
            container.over = True
            threading.Thread(target=gone, args=(running.pop(uid),), daemon=True).start()
        elif pod["status"].get("phase") != "Running":
            remove(pod)
        return
    if container is None and pod["status"].get("phase") == "Pending":
        container = Container(pod)
        if pod["spec"]["containers"][0]["image"].startswith("missing"):
            if "containerStatuses" not in pod["status"]:
                waiting = {"reason": "ErrImagePull", "message": "not found: \x1b[2Jmissing"}
                set_status(pod, container.status("Pending", {"waiting": waiting}))
            return
        running[uid] = container
        container.start()
    elif container and not container.over:
        limit = pod["spec"].get("activeDeadlineSeconds")
        if limit and time.time() - container.began > limit:
            fail(container, "DeadlineExceeded", "Pod was active on the node longer than the specified deadline")


def gone(container):
    container.end("TERM")
    remove(container.pod)


def remove(pod):
    try:
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}}
        api("DELETE", path_of(pod), options)
    except Exception:
        pass


def fail(container, reason, message):
    container.over = True
    container.end()
    ended = {"terminated": {"exitCode": 137, "reason": "Error"}}
    set_status(container.pod, container.status("Failed", ended, reason=reason, message=message))


# ---- exec: SPDY/3.1 on an upgraded connection

WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status"
).split() + ["200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin"]
TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative "
    "Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 "
    "Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec "
    "00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,"
    "application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset="
    "iso-8859-1,utf-,*,enq=0."
)
# The dictionary of the SPDY protocol, draft 3, section 2.6.10.1.
DICTIONARY = b"".join(struct.pack(">I", len(w)) + w.encode() for w in WORDS) + TAIL.encode()
SYN_STREAM, SYN_REPLY, RST, PING, FIN = 1, 2, 3, 6, 1

connections = set()
refusing = threading.Event()
vanished = threading.Event()


class Spdy:
    def __init__(self, sock):
        self.sock, self.lock = sock, threading.Lock()
        self.inflate = zlib.decompressobj(zdict=DICTIONARY)
        self.deflate = zlib.compressobj(zdict=DICTIONARY)

    def read(self, count):
        # One thread reads and others write; OpenSSL wants them one at a time.
        data = b""
        while len(data) < count:
            with self.lock:
                self.sock.setblocking(False)
                try:
                    more = self.sock.recv(count - len(data))
                except (ssl.SSLWantReadError, BlockingIOError):
                    more = None
                finally:
                    self.sock.setblocking(True)
            if vanished.is_set():
                data, more = b"", None
                time.sleep(0.1)
            elif more is None:
                select.select([self.sock], [], [], 0.1)
            elif not more:
                raise EOFError
            else:
                data += more
        return data

    def frame(self):
        """(kind, stream, flags, body): kind 0 is data."""
        head, flags_length = struct.unpack(">II", self.read(8))
        body = self.read(flags_length & 0xFFFFFF)
        if head >> 31:
            return head & 0xFFFF, struct.unpack(">I", body[:4])[0] if len(body) >= 4 else 0, flags_length >> 24, body
        return 0, head, flags_length >> 24, body

    def control(self, kind, body, flags=0):
        with self.lock:
            self.sock.sendall(struct.pack(">II", 0x80030000 | kind, flags << 24 | len(body)) + body)

    def headers(self, block):
        data = self.inflate.decompress(block)
        (count,), at, found = struct.unpack(">I", data[:4]), 4, {}
        for _ in range(count):
            pair = []
            for _ in range(2):
                (length,) = struct.unpack(">I", data[at : at + 4])
                pair.append(data[at + 4 : at + 4 + length].decode())
                at += 4 + length
            found[pair[0].lower()] = pair[1]
        return found

    def reply(self, stream):
        with self.lock:
            block = self.deflate.compress(struct.pack(">I", 0)) + self.deflate.flush(zlib.Z_SYNC_FLUSH)
            body = struct.pack(">I", stream) + block
            self.sock.sendall(struct.pack(">II", 0x80030000 | SYN_REPLY, len(body)) + body)

    def data(self, stream, data, flags=0):
        if vanished.is_set():
            return
        with self.lock:
            self.sock.sendall(struct.pack(">II", stream, flags << 24 | len(data)) + data)


def carry(sock, container, command):
    spdy, streams = Spdy(sock), {}
    while len(streams) < 4:
        kind, stream, _, body = spdy.frame()
        if kind == SYN_STREAM:
            streams[spdy.headers(body[10:])["streamtype"]] = stream
            spdy.reply(stream)
        elif kind == PING:
            spdy.control(PING, body)
    process = subprocess.Popen(
        [*runc, "exec", container.id, *command],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
    )

    def pump(pipe, stream):
        try:
            while data := os.read(pipe.fileno(), 32768):
                spdy.data(stream, data)
        except (OSError, ValueError):
            pass

    pumps = [threading.Thread(target=pump, args=(process.stdout, streams["stdout"])), threading.Thread(target=pump, args=(process.stderr, streams["stderr"]))]
    for thread in pumps:
        thread.start()

    def finish():
        code = process.wait()
        for thread in pumps:
            thread.join()
        status = {"metadata": {}, "status": "Success"}
        if code:
            causes = [{"reason": "ExitCode", "message": str(code)}]
            status = {"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode", "message": f"command terminated with exit code {code}", "details": {"causes": causes}}
        while vanished.is_set():
            time.sleep(1)
        try:
            spdy.data(streams["error"], json.dumps(status).encode())
            for stream in streams.values():
                spdy.data(stream, b"", FIN)
            time.sleep(0.2)
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    threading.Thread(target=finish, daemon=True).start()
    try:
        while True:
            kind, stream, flags, body = spdy.frame()
            if kind == 0 and stream == streams["stdin"]:
                if body:
                    process.stdin.write(body)
                if flags & FIN:
                    process.stdin.close()
            elif kind == PING:
                spdy.control(PING, body)
    except (EOFError, OSError, ValueError):
        pass
    # As containerd has it: the process's stdin ends, the process itself does not.
    try:
        process.stdin.close()
    except OSError:
        pass


class Kubelet(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        while vanished.is_set():
            time.sleep(1)
        url = urlparse(self.path)
        parts = url.path.strip("/").split("/")
        container = next((c for c in running.values() if parts[:1] == ["exec"] and c.name == parts[2] and not c.over), None)
        if container is None or refusing.is_set():
            self.send_error(404 if container is None else 503)
            return
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "SPDY/3.1")
        self.send_header("X-Stream-Protocol-Version", "v4.channel.k8s.io")
        self.end_headers()
        self.wfile.flush()
        self.close_connection = True
        connections.add(self.connection)
        try:
            carry(self.connection, container, parse_qs(url.query).get("command", []))
        finally:
            connections.discard(self.connection)

    do_GET = do_POST

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass


os.makedirs(os.path.join(directory, "share"), exist_ok=True)
listener = Server(("127.0.0.1", 0), Kubelet)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
listener.socket = context.wrap_socket(listener.socket, server_side=True)
threading.Thread(target=listener.serve_forever, daemon=True).start()
threading.Thread(target=look, daemon=True).start()
print(listener.server_address[1], flush=True)
for line in sys.stdin:
    words = line.split()
    named = [c for c in running.values() if len(words) > 1 and c.name == words[1]]
    if words[0] in ("drop", "refuse"):
        if words[0] == "refuse":
            refusing.set()
        for connection in list(connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            connections.discard(connection)
    elif words[0] == "joined":
        until = time.time() + 60
        while not connections and time.time() < until:
            time.sleep(0.02)
    elif words[0] == "vanish":
        vanished.set()
    elif words[0] == "accept":
        refusing.clear()
    elif words[0] == "evict":
        for container in named:
            fail(container, "Evicted", "The node was low on resource: memory.")
    elif words[0] == "patience":
        patience = ["--patience", words[1]]
    elif words[0] == "kill":
        for container in named:
            container.end()
    print("ok", flush=True)
for container in list(running.values()):
    container.over = True
    container.end()
