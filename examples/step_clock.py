"""What all examples share: `--seconds`, and a clock that prints how long steps take."""

import argparse
import os
import signal
import statistics
import sys
import time


def seconds_wanted(description, **extra):
    """Parses `--seconds` (0 runs for ever) and any options given as name=default."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to run; 0 for ever")
    for name, default in extra.items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(default), default=default)
    return parser.parse_args()


class StepClock:
    """Counts steps until the time is up; prints the median every two seconds."""

    def __init__(self, seconds, label=""):
        self.label = label
        self.until = time.monotonic() + seconds if seconds > 0 else float("inf")
        self.started = self.last = self.printed = time.monotonic()
        self.recent = []
        self.count = 0
        # Ended by kill, an example still removes its files.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        print(f"{label}pid {os.getpid()}", flush=True)

    def running(self):
        return time.monotonic() < self.until

    def tick(self):
        """Call it at the end of every step."""
        now = time.monotonic()
        self.recent.append(now - self.last)
        self.last = now
        self.count += 1
        if now - self.printed >= 2.0:
            median = statistics.median(self.recent) * 1e3
            print(f"{self.label}step {self.count}: median {median:.1f} ms", flush=True)
            self.printed = now
            self.recent.clear()
