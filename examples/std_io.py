"""I/O bound, standard library only: every step pickles its state and waits for the disk."""

import hashlib
import os
import pickle
import tempfile

from step_clock import StepClock, seconds_wanted


def save_state(state, path):
    with open(path, "wb") as file:
        pickle.dump(state, file)
        file.flush()
        os.fsync(file.fileno())


def learn(state):
    state["digest"] = hashlib.sha256(state["weights"]).digest()
    state["step"] += 1


def main():
    arguments = seconds_wanted(__doc__, directory=".")
    state = {"weights": os.urandom(8 << 20), "step": 0}
    clock = StepClock(arguments.seconds)
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        path = os.path.join(directory, "state.pkl")
        while clock.running():
            learn(state)
            save_state(state, path)
            clock.tick()


if __name__ == "__main__":
    main()
