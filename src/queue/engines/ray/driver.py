# Runs a command once on each of N Ray nodes, all at the same time or not at all. aictl passes this
# text to Python as the entrypoint of a Ray job, or as a file to a RayJob's; AICTL_RAY_SPEC says what to
# run (JSON in base64).
# Each line of output is printed with its rank before it: "[0] words".
#
# A placement group holds one bundle a node. While it waits for them the job can be stopped at once,
# which Ray does not do for a job whose entrypoint itself waits for resources.
import base64, ctypes, json, os, signal, socket, subprocess, sys, threading, time

spec = json.loads(base64.b64decode(os.environ.pop("AICTL_RAY_SPEC")))
os.environ.pop("AICTL_RAY_DRIVER", None)

if spec["alone"]:
    # The only node is the job's own, and what the command does with Ray is its business.
    os.environ.update(spec["env"])
    try:
        if spec["workdir"]:
            os.chdir(spec["workdir"])
        os.execvp(spec["words"][0], spec["words"])
    except OSError as error:
        print(f"aictl: cannot run {spec['words'][0]}: {error}", file=sys.stderr)
        sys.exit(127 if isinstance(error, FileNotFoundError) else 126)

import ray
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

TIME_LIMIT = 124  # as timeout(1) has it
KILL_AFTER_S = 2  # Ray kills the driver 3 s after it asked it to stop


class Rank:
    """One node's process."""

    def __init__(self):
        self.process = None

    def place(self):
        with socket.socket() as free:
            free.bind(("", 0))
            return ray.util.get_node_ip_address(), free.getsockname()[1]

    def run(self, words, environment, workdir):
        """Yields the output as bytes, then the exit code."""
        own = {k: v for k, v in os.environ.items() if k not in ("AICTL_RAY_SPEC", "AICTL_RAY_DRIVER")}
        # A worker of Ray that is killed must not leave the process behind: PR_SET_PDEATHSIG is 1.
        end_with_parent = lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        try:
            self.process = subprocess.Popen(
                words, env={**own, **environment}, cwd=workdir, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=end_with_parent)
        except OSError as error:
            yield f"aictl: cannot run {words[0]}: {error}\n".encode()
            yield 127 if isinstance(error, FileNotFoundError) else 126
            return
        while chunk := os.read(self.process.stdout.fileno(), 1 << 16):
            yield chunk
        code = self.process.wait()
        yield code if code >= 0 else 128 - code

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        for sent in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, sent)
            except ProcessLookupError:
                return
            try:
                self.process.wait(KILL_AFTER_S)
                return
            except subprocess.TimeoutExpired:
                pass


class Run:
    """All ranks, once."""

    def __init__(self, group):
        self.codes, self.failed, self.lock = {}, None, threading.Lock()
        rank = ray.remote(Rank)
        self.ranks = [
            rank.options(
                num_cpus=spec["cpus"], num_gpus=spec["gpus"], memory=spec["memory"] or None, max_concurrency=3,
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index),
            ).remote()
            for index in range(spec["nodes"])
        ]

    def environment(self, index, place):
        address, port = place
        values = {
            "MASTER_ADDR": address, "MASTER_PORT": port, "NODE_RANK": index, "NNODES": spec["nodes"],
            "NPROC_PER_NODE": spec["processes"], "RANK": index, "WORLD_SIZE": spec["nodes"], "LOCAL_RANK": 0,
            "PET_NNODES": spec["nodes"], "PET_NODE_RANK": index, "PET_NPROC_PER_NODE": spec["processes"],
            "PET_MASTER_ADDR": address, "PET_MASTER_PORT": port, "AICTL_SUBMISSION_ID": spec["id"],
        }
        return {**{name: str(value) for name, value in values.items()}, **spec["env"]}

    def show(self, index, text):
        mark = f"[{index}] ".encode()
        with self.lock:
            for line in text.splitlines(keepends=True):
                sys.stdout.buffer.write(mark + line + (b"" if line.endswith(b"\n") else b"\n"))
            sys.stdout.buffer.flush()

    def follow(self, index, place):
        rest, code = b"", 1
        try:
            words, environment = spec["words"], self.environment(index, place)
            output = self.ranks[index].run.options(num_returns="streaming").remote(words, environment, spec["workdir"])
            for part in output:
                part = ray.get(part)
                if isinstance(part, int):
                    code = part
                    break
                rest += part
                whole, line_end, after = rest.rpartition(b"\n")
                if line_end:
                    self.show(index, whole + line_end)
                    rest = after
        except Exception as error:
            self.show(index, f"aictl: rank {index} was lost: {error}\n".encode())
        if rest:
            self.show(index, rest)
        with self.lock:
            self.codes[index] = code
            if code and self.failed is None:
                self.failed = code

    def stop(self):
        ray.wait([rank.stop.remote() for rank in self.ranks], num_returns=len(self.ranks), timeout=KILL_AFTER_S + 0.5)

    def wait(self, deadline):
        place = ray.get(self.ranks[0].place.remote())
        threads = [threading.Thread(target=self.follow, args=(index, place), daemon=True) for index in range(spec["nodes"])]
        for thread in threads:
            thread.start()
        # One that fails ends the others, as a gang.
        while len(self.codes) < spec["nodes"] and self.failed is None:
            if deadline and time.monotonic() > deadline:
                self.show(0, f"aictl: the time limit of {spec['time_s']} s is reached\n".encode())
                self.stop()
                return TIME_LIMIT
            time.sleep(0.05)
        if self.failed is not None:
            self.stop()
            for thread in threads:
                thread.join(KILL_AFTER_S)
        return self.failed or 0


def main():
    ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
    bundle = {"CPU": spec["cpus"], "GPU": spec["gpus"], "memory": spec["memory"]}
    if spec["gpu_type"]:
        bundle["accelerator_type:" + spec["gpu_type"]] = 0.001
    bundle = {name: amount for name, amount in bundle.items() if amount}
    strategy = "STRICT_SPREAD" if spec["nodes"] > 1 else "STRICT_PACK"
    group = placement_group([bundle] * spec["nodes"], strategy=strategy, name="aictl:" + spec["id"])
    current = []

    def end(*_):
        if current:
            current[-1].stop()
        os._exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)
    ready = group.ready()
    while not ray.wait([ready], timeout=1)[0]:
        pass
    deadline = time.monotonic() + spec["time_s"] if spec["time_s"] else None
    for attempt in range(spec["retries"] + 1):
        run = Run(group)
        current.append(run)
        code = run.wait(deadline)
        for rank in run.ranks:
            ray.kill(rank)
        if code == 0 or code == TIME_LIMIT:
            break
    sys.stdout.flush()
    os._exit(code)


main()
