#!/usr/bin/env python3
"""How fast a cold model comes into the page cache, against what one would use instead.

Writes safetensors shards (or takes a directory), and in each round reads them in every way, in turn,
the page cache dropped before each. Prints the median rate, its ratio to the device's limit (O_DIRECT
reads of several threads into huge pages), the share resident afterwards as cachestat(2) has it, and
CPU seconds. Ways whose program is not there are left out: vmtouch, fio, Python's safetensors, the
Run:ai streamer (pip install safetensors runai-model-streamer).

    sudo benches/page_cache.py --aictl target/release/aictl [--gigabytes 4] [--shards 4] [--rounds 5]
"""

import argparse
import ctypes
import importlib.util
import json
import mmap
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

MIB = 1 << 20


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aictl", default="target/release/aictl")
    parser.add_argument("--model", help="directory with safetensors files, instead of new ones")
    parser.add_argument("--where", default=".", help="directory on the device that is measured")
    parser.add_argument("--gigabytes", type=float, default=4)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", help="names of ways")
    parser.add_argument("--ways", action="store_true", help="measure aictl's own ways and thread counts, too")
    parser.add_argument("--gently", action="store_true",
                        help="drop the model's own pages alone, on a machine that others use; needs no root")
    options = parser.parse_args()
    if os.geteuid() != 0 and not options.gently:
        sys.exit("page_cache.py: needs root to drop the page cache: run it with sudo, or with --gently")
    if options.model:
        measure(options, options.model)
        return
    with tempfile.TemporaryDirectory(dir=options.where) as folder:
        write(folder, options.shards, int(options.gigabytes * 1e9))
        measure(options, folder)


def write(folder, shards, size):
    """Shards with tensors of 64 MiB, of bytes that no device can press together."""
    for shard in range(shards):
        count = max(1, size // shards // (64 * MIB))
        entries = {f"model.layers.{shard * count + i}.weight":
                   {"dtype": "U8", "shape": [64 * MIB], "data_offsets": [i * 64 * MIB, (i + 1) * 64 * MIB]}
                   for i in range(count)}
        header = json.dumps(entries).encode()
        with open(f"{folder}/model-{shard + 1:05}-of-{shards:05}.safetensors", "wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            for _ in range(count):
                file.write(os.urandom(64 * MIB))
            os.fsync(file.fileno())


def measure(options, folder):
    files = sorted(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".safetensors"))
    size = sum(os.path.getsize(file) for file in files)
    ways = {name: run for name, run in candidates(options, folder, files).items()
            if not options.only or name in options.only or name == LIMIT}
    found = {name: [] for name in ways}
    for round_number in range(options.rounds):
        # Neighbours in one round are not always the same, should one leave something to the next.
        names = list(ways)
        names = names[round_number % len(names):] + names[:round_number % len(names)]
        for name in names:
            drop(files, options.gently)
            before = cpu()
            begin = time.monotonic()
            ways[name]()
            seconds = time.monotonic() - begin
            found[name].append((size / 1e6 / seconds, cpu() - before, resident(files) / size))
        print(f"round {round_number + 1} of {options.rounds} done, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    limit = statistics.median(rate for rate, _, _ in found[LIMIT])
    print(f"{size / 1e9:.1f} GB in {len(files)} files, {options.rounds} rounds; medians")
    print(f"{'WAY':<34}   {'MB/S':>6}   {'OF LIMIT':>8}   {'SLOWEST-FASTEST':>15}   {'RESIDENT':>8}   CPU S")
    for name, rounds in sorted(found.items(), key=lambda item: -statistics.median(r for r, _, _ in item[1])):
        rates = [rate for rate, _, _ in rounds]
        rate = statistics.median(rates)
        print(f"{name:<34}   {rate:>6.0f}   {rate / limit:>8.2f}   {min(rates):>7.0f}-{max(rates):<7.0f}   "
              f"{statistics.median(r for _, _, r in rounds):>8.0%}   {statistics.median(c for _, c, _ in rounds):.2f}")


LIMIT = "O_DIRECT, 8 threads x 16 MiB"


def candidates(options, folder, files):
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

    def program(*command):
        return lambda: subprocess.run(command, check=True, **quiet)

    pins = {"AICTL_PRELOAD_PINS": os.path.join(folder, "pins")}

    def aictl(*flags):
        command = [options.aictl, "preload", folder, "--page-cache", *flags]
        return lambda: subprocess.run(command, check=True, env={**os.environ, **pins}, **quiet)

    ways = {LIMIT: lambda: direct(files, 8, 16 * MIB), "aictl preload --page-cache": aictl()}
    if options.ways:
        for way, threads in [("sendfile", 2), ("sendfile", 4), ("sendfile", 8), ("sendfile", 12), ("populate", 8), ("populate", 16), ("populate", 32)]:
            ways[f"aictl {way} {threads}"] = aictl("--way", way, "--threads", str(threads))
    ways["cat"] = program("cat", *files)
    ways["cat, 4 at once"] = program("sh", "-c", 'printf "%s\\n" "$@" | xargs -P 4 -n 1 cat', "sh", *files)
    if shutil.which("vmtouch"):
        ways["vmtouch -t"] = program("vmtouch", "-q", "-t", *files)
    if shutil.which("fio"):
        ways["fio, buffered, 4 jobs"] = program(
            "fio", "--readonly", "--rw=read", "--bs=1m", "--ioengine=psync", "--invalidate=0", *[argument for i, file in enumerate(files) for argument in (f"--name=r{i}", f"--filename={file}")])
    python = sys.executable
    if importlib.util.find_spec("safetensors"):
        ways["safetensors, every tensor"] = program(python, "-c", SAFETENSORS, *files)
    if importlib.util.find_spec("runai_model_streamer"):
        os.environ["RUNAI_STREAMER_FS_STRATEGY"] = "sync_buffered"
        ways["Run:ai streamer, buffered"] = program(python, "-c", RUNAI, *files)
    return ways


SAFETENSORS = """
import sys
from safetensors import safe_open
for path in sys.argv[1:]:
    with safe_open(path, framework="numpy") as file:
        for name in file.keys():
            file.get_tensor(name).sum()
"""

RUNAI = """
import sys
from runai_model_streamer import SafetensorsStreamer
with SafetensorsStreamer() as streamer:
    streamer.stream_files(sys.argv[1:])
    for _ in streamer.get_tensors():
        pass
"""


def direct(files, threads, size):
    """Reads past the page cache, as much at once as the device takes."""
    pieces = [(file, at) for file in files for at in range(0, os.path.getsize(file), size)]
    lock = threading.Lock()

    def work():
        # Private, or there are no huge pages: 4,096 small ones a request cost more than the device.
        buffer = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        buffer.madvise(mmap.MADV_HUGEPAGE)
        opened = {file: os.open(file, os.O_RDONLY | os.O_DIRECT) for file in files}
        while True:
            with lock:
                if not pieces:
                    break
                file, at = pieces.pop(0)
            os.preadv(opened[file], [buffer], at)
        for descriptor in opened.values():
            os.close(descriptor)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def drop(files, gently):
    if gently:
        for path in files:
            with open(path, "rb") as file:
                # Dirty pages stay whatever the advice.
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        left = resident(files)
        if left:
            sys.exit(f"page_cache.py: {left} bytes stay in the page cache: who has the files mapped?")
        return
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("3")


def cpu():
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def resident(files):
    """Resident bytes by cachestat(2), system call 451 since Linux 6.5."""
    libc = ctypes.CDLL(None, use_errno=True)
    total = 0
    for path in files:
        with open(path, "rb") as file:
            size = os.path.getsize(path)
            asked = (ctypes.c_uint64 * 2)(0, size)
            answer = (ctypes.c_uint64 * 5)()
            if libc.syscall(451, file.fileno(), asked, answer, 0) != 0:
                sys.exit(f"page_cache.py: cachestat: {os.strerror(ctypes.get_errno())}")
            total += min(size, answer[0] * mmap.PAGESIZE)
    return total


if __name__ == "__main__":
    main()
