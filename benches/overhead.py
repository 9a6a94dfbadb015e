#!/usr/bin/env python3
"""What a profiler costs the training loop it watches: step time with it against without it.

One loop runs throughout (benches/train_loop.py); the profilers take turns to watch it, each
window between two windows with nobody watching. A round's ratio is the median step with the
profiler over the median step of the two windows around it; the table gives the median of the
rounds and their range. The row "nothing" is a window like the others with no profiler: the noise.

    sudo benches/overhead.py --aictl target/release/aictl --python PYTHON_WITH_TORCH

Profilers that are not installed are left out. Needs root, for the probes.
"""

import argparse
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
OPERATORS = ["addmm", "add_Tensor", "_softmax", "layer_norm", "bmm", "gelu", "linear"]


def run_for(command, seconds, **more):
    """Starts a profiler that would go on, and interrupts it after the window."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    return process


def torch_library(pid):
    with open(f"/proc/{pid}/maps") as maps:
        for line in maps:
            if "libtorch_cpu.so" in line:
                return line.split(maxsplit=5)[5].strip()
    return None


class Profilers:
    def __init__(self, options, pid, folder):
        self.options, self.pid, self.folder = options, pid, folder

    def out(self, name):
        return os.path.join(self.folder, name)

    def nothing(self, seconds):
        time.sleep(seconds)

    def aictl(self, seconds):
        return run_for([self.options.aictl, "profile", "--pid", str(self.pid), "--no-report", "-q",
                        "-w", self.out("a.pftrace")], seconds)

    def torch_profiler(self, seconds):
        os.kill(self.pid, signal.SIGUSR1)
        time.sleep(seconds)
        os.kill(self.pid, signal.SIGUSR2)

    def py_spy(self, seconds):
        return run_for(["py-spy", "record", "-r", "99", "-p", str(self.pid), "-f", "raw", "-d", "3600",
                        "-o", self.out("spy")], seconds)

    def perf(self, seconds):
        return run_for(["perf", "record", "-F", "99", "-g", "-p", str(self.pid), "-o", self.out("perf")], seconds)

    def bpftrace(self, seconds):
        library = torch_library(self.pid)
        probes = ",".join(f"uprobe:{library}:*at4_ops*{len(o)}{o}4call*" for o in OPERATORS)
        program = f"{probes} {{ @start[tid] = nsecs; @calls[probe] = count(); }}"
        return run_for(["bpftrace", "-p", str(self.pid), "-e", program], seconds)


def available(options):
    tools = {"nothing": True, "aictl": True, "torch_profiler": True}
    tools |= {"py_spy": shutil.which("py-spy"), "perf": shutil.which("perf"), "bpftrace": shutil.which("bpftrace")}
    return [name for name, there in tools.items() if there and (not options.only or name in options.only)]


def median_step(log, start, end):
    steps = []
    with open(log) as lines:
        for line in lines:
            fields = line.split()
            # The line being written now may be cut.
            if len(fields) == 2 and start <= int(fields[0]) - int(fields[1]) and int(fields[0]) <= end:
                steps.append(int(fields[1]))
    return (statistics.median(steps), max(steps), len(steps)) if steps else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aictl", default="target/release/aictl")
    parser.add_argument("--python", default=sys.executable, help="a Python that has torch")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--window", type=float, default=6.0, help="seconds")
    parser.add_argument("--skip", type=float, default=1.0, help="seconds at a window's start that do not count")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("overhead.py: needs root for the probes: run it with sudo")
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, "steps")
        loop = subprocess.Popen([options.python, os.path.join(HERE, "train_loop.py"), "--log", log,
                                 "--threads", str(options.threads)])
        try:
            compare(options, loop.pid, log, folder)
        finally:
            loop.kill()


def compare(options, pid, log, folder):
    while not (os.path.exists(log) and os.path.getsize(log) > 2000):
        time.sleep(0.2)
    time.sleep(2)
    names, profilers = available(options), Profilers(options, pid, folder)
    ratios, stalls = {name: [] for name in names}, {name: [] for name in names}

    def window(name):
        start = time.monotonic_ns()
        process = getattr(profilers, name)(options.window)
        end = time.monotonic_ns()
        if process is not None:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
        time.sleep(0.5)
        return median_step(log, start + int(options.skip * 1e9), end), median_step(log, start, end)

    before, _ = window("nothing")
    for _ in range(options.rounds):
        for name in random.sample(names, len(names)):
            (watched, whole), (after, _) = window(name), window("nothing")
            if watched and before and after:
                base = (before[0] + after[0]) / 2
                ratios[name].append(watched[0] / base)
                stalls[name].append(whole[1] / base)
            before = after
    print(f"{'PROFILER':<16}{'STEP TIME':>10}   {'RANGE':<13}{'WORST STEP':>10}   ROUNDS")
    for name in names:
        if ratios[name]:
            values = ratios[name]
            spread = f"{min(values):.2f}–{max(values):.2f}"
            print(f"{name:<16}{statistics.median(values):>10.3f}   {spread:<13}"
                  f"{statistics.median(stalls[name]):>10.2f}   {len(values)}")


if __name__ == "__main__":
    main()
