"""Host bound, standard library only: threads contend for the GIL.

Three threads count in pure Python beside the loop, so the loop runs a quarter of the time
and waits for the GIL the rest.
"""

import threading

from step_clock import StepClock, seconds_wanted


def count_for_ever():
    n = 0
    while True:
        n += 1


def update(weights):
    return [weight * 0.999 + 0.001 for weight in weights]


def main():
    arguments = seconds_wanted(__doc__)
    for _ in range(3):
        threading.Thread(target=count_for_ever, daemon=True).start()
    weights = [0.5] * 50_000
    clock = StepClock(arguments.seconds)
    while clock.running():
        for _ in range(4):
            weights = update(weights)
        clock.tick()


if __name__ == "__main__":
    main()
