"""Input bound, standard library only: the loop parses its own files, line by line.

`read_records` is a generator that reads and parses JSON in the main thread; the work on a
record is a small part of the step.
"""

import hashlib
import json
import os
import tempfile

from step_clock import StepClock, seconds_wanted


def write_records(path, count):
    with open(path, "w") as file:
        for i in range(count):
            file.write(json.dumps({"id": i, "tokens": list(range(i % 7, 400)), "text": "x" * 200}) + "\n")


def read_records(path, batch):
    while True:
        with open(path) as file:
            records = []
            for line in file:
                record = json.loads(line)
                record["tokens"] = [token + 1 for token in record["tokens"] if token % 3]
                records.append(record)
                if len(records) == batch:
                    yield records
                    records = []


def learn(records):
    digest = hashlib.sha256()
    for record in records:
        digest.update(record["text"].encode() * 50)
    return digest.hexdigest()


def main():
    arguments = seconds_wanted(__doc__)
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "records.jsonl")
        write_records(path, 5000)
        clock = StepClock(arguments.seconds)
        for records in read_records(path, 512):
            learn(records)
            clock.tick()
            if not clock.running():
                break


if __name__ == "__main__":
    main()
