#!/usr/bin/env python3
"""How much of a model the source sends when many nodes take it from each other.

    benches/preload_peers.py [--aictl target/release/aictl] [--nodes 64] [--megabytes 256]

Each node is a process with a store of its own; all are on this machine, so that the rate says little:
what counts is the source's egress over the model's size, which should be at most 1.2. The source is a
small hub on this machine that counts the bytes it sends. Needs room for the model once a node.
"""
import argparse, os, shutil, socket, subprocess, sys, tempfile, time

from small_hub import COMMIT, hub


def ports(count):
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    found = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aictl", default="target/release/aictl")
    parser.add_argument("--nodes", type=int, default=64)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--connections", default="8")
    options = parser.parse_args()
    half = options.megabytes * 500_000
    files = {"a.bin": os.urandom(half), "b.bin": os.urandom(half), "config.bin": os.urandom(10_000)}
    size = sum(map(len, files.values()))
    port, _, sent = hub(files)
    directory = tempfile.mkdtemp(prefix="preload-peers-", dir=os.environ.get("AICTL_BENCH_DIR"))
    try:
        addresses = [f"127.0.0.1:{port}" for port in ports(options.nodes)]
        with open(f"{directory}/peers", "w", encoding="ascii") as file:
            file.write("\n".join(addresses))
        environment = {"PATH": os.environ["PATH"], "HOME": directory, "HF_ENDPOINT": f"http://127.0.0.1:{port}", "AICTL_PEER_TOKEN": "bench"}
        begin = time.monotonic()
        running = [subprocess.Popen(
            [options.aictl, "preload", "org/model", "--to", f"{directory}/{number}", "--connections", options.connections, "-o", "json",
             "--peers", f"@{directory}/peers", "--peer-listen", address, "--peer-count", str(options.nodes)],
            env=environment, stdout=subprocess.DEVNULL, stderr=open(f"{directory}/{number}.log", "wb")) for number, address in enumerate(addresses)]
        codes = [process.wait() for process in running]
        seconds = time.monotonic() - begin
        bad = [number for number, code in enumerate(codes) if code]
        for number in bad[:3]:
            print(f"node {number} ended with {codes[number]}: {open(f'{directory}/{number}.log', errors='replace').read()[-300:]}")
        wrong = 0
        for number in range(options.nodes):
            for name, body in files.items():
                found = open(f"{directory}/{number}/hub/models--org--model/snapshots/{COMMIT}/{name}", "rb").read() if number not in bad else body
                wrong += found != body
        print(f"{options.nodes} nodes, {size / 1e6:.0f} MB each, {seconds:.1f} s, load {os.getloadavg()[0]:.1f}")
        print(f"the source sent {sent[0] / 1e6:.0f} MB: {sent[0] / size:.3f} x the model's size; {len(bad)} nodes failed, {wrong} files are wrong")
        sys.exit(bool(bad or wrong or sent[0] > 1.2 * size))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


main()
