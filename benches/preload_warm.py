#!/usr/bin/env python3
"""How long a run takes that has nothing to do, and how much memory a run takes that has much.

    benches/preload_warm.py [--aictl target/release/aictl] [--files 1000] [--gigabytes 2]

A small hub on this machine, whose requests are counted. The second run of a model with many files
should take under 50 ms and ask once, with --max-age not at all. Then one large file comes over 64
connections; the largest resident set should be under --max-memory (256 MiB).
"""
import argparse, os, shutil, statistics, subprocess, tempfile, time

from small_hub import hub


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aictl", default="target/release/aictl")
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="preload-warm-", dir=os.environ.get("AICTL_BENCH_DIR"))

    def run(port, *flags):
        environment = {"PATH": os.environ["PATH"], "HOME": directory, "HF_ENDPOINT": f"http://127.0.0.1:{port}"}
        begin = time.monotonic()
        process = subprocess.Popen([options.aictl, "preload", "org/model", "--to", f"{directory}/{port}", *flags],
                                   env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Not rusage's: a child's largest set begins with that of whoever forked it, which has the files.
        memory = 0
        while process.poll() is None:
            try:
                with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
                    memory = max([memory] + [int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM:")])
            except (FileNotFoundError, ProcessLookupError):
                pass
            time.sleep(0.002)
        assert process.returncode == 0, process.returncode
        return time.monotonic() - begin, memory

    try:
        port, asked, _ = hub({f"{number:04}.bin": os.urandom(100) for number in range(options.files)})
        first, _ = run(port)
        print(f"{options.files} files, load {os.getloadavg()[0]:.1f}: first run {first:.2f} s")
        for name, flags in [("second run", []), ("second run with --max-age", ["--max-age", "1h"])]:
            asked.clear()
            times = [run(port, *flags)[0] for _ in range(options.rounds)]
            print(f"{name}: median {statistics.median(times) * 1e3:.0f} ms, {len(asked) / options.rounds:.0f} requests")
        port, asked, _ = hub({"large.bin": os.urandom(1 << 20) * int(options.gigabytes * 1e9 / (1 << 20))})
        seconds, memory = run(port)
        print(f"{options.gigabytes:.1f} GB over up to 64 connections: {seconds:.1f} s, largest resident set {memory:.0f} MiB (bound: 256)")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


main()
