#!/usr/bin/env python3
"""How many finished slices a second aictl carries from probes to a file, and at what cost.

A C program makes system calls at a steady rate; aictl records every one as a slice
(--syscall-threshold 0). Prints, for each rate: slices a second in the recording, events lost,
aictl's CPU seconds per million slices, its peak memory, and bytes a slice.

    sudo benches/throughput.py --aictl target/release/aictl [--rates 50000 200000 400000] [--seconds 10]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aictl", default="target/release/aictl")
    parser.add_argument("--rates", type=int, nargs="+", default=[50_000, 200_000, 400_000])
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("throughput.py: needs root for the probes: run it with sudo")
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "paced_calls")
        subprocess.run(["cc", "-O2", "-pthread", "-o", program, os.path.join(HERE, "paced_calls.c")], check=True)
        print(f"{'CALLS/S':>8}   {'SLICES/S':>8}   {'LOST':>5}   {'CPU S/MILLION':>13}   {'PEAK MB':>7}   BYTES/SLICE")
        for rate in options.rates:
            print(measure(options, program, rate, os.path.join(folder, "t.pftrace")), flush=True)


def measure(options, program, rate, recording):
    command = [options.aictl, "profile", "-q", "--no-report", "--layers", "syscall", "--syscall-threshold", "0",
               "--max-overhead", "100%", "-w", recording, "--", program, str(rate), str(options.seconds)]
    aictl = subprocess.Popen(command, stdout=subprocess.PIPE)
    made = int(aictl.stdout.read())
    # Unlike the whole tree's usage, this is the one process's: the target's is not in it, since aictl reaped it.
    _, status, usage = os.wait4(aictl.pid, 0)
    if status:
        sys.exit(f"throughput.py: aictl failed with wait status {status}")
    size = os.path.getsize(recording)
    report = json.loads(subprocess.run([options.aictl, "report", recording, "-o", "json"], check=False,
                                       stdout=subprocess.PIPE).stdout)
    counts = {row["name"]: row["count"] for row in report["top"]["syscall"]}
    cpu = report["capture"]["cpu_share"] * report["duration_s"]
    return (f"{rate:>8}   {counts.get('getppid', 0) / options.seconds:>8.0f}   {report['capture']['lost_events']:>5}   "
            f"{cpu / made * 1e6:>13.2f}   {usage.ru_maxrss / 1024:>7.0f}   {size / made:>11.1f}")


if __name__ == "__main__":
    main()
