#!/usr/bin/env python3
"""How long `aictl queue list` takes over 20,000 jobs in five targets, and what of `submit` is aictl's own.

Five servers of our own stand for Kueue, Volcano, Kubernetes without a queue, slurmrestd and Ray, each a
process of its own. They answer from memory, in pages as an API server does, with objects as large as real
ones. Prints wall time, processor time and peak memory of `aictl queue list`; then of `aictl submit` the
wall time, what of it the server took, and the rest, which is aictl's own.

    benches/queue_list.py --aictl target/release/aictl [--jobs 20000] [--runs 5]
"""

import argparse
import http.server
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse

NOW = "2026-01-01T00:00:00Z"


def pod(gpus):
    """A pod template with as much in it as people's have."""
    environment = [{"name": f"VARIABLE_{n}", "value": f"value number {n} of some length"} for n in range(20)]
    container = {"name": "main", "image": "registry.example.org/team/train:1", "command": ["python", "train.py"],
                 "env": environment, "resources": {"requests": {"nvidia.com/gpu": gpus}, "limits": {"nvidia.com/gpu": gpus}},
                 "volumeMounts": [{"name": "dshm", "mountPath": "/dev/shm"}]}
    return {"metadata": {"labels": {"app": "train"}},
            "spec": {"restartPolicy": "Never", "containers": [container], "volumes": [{"name": "dshm", "emptyDir": {}}]}}


def meta(name, more=None, labels=None, owners=None):
    managed = [{"manager": "aictl", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {f"f:{n}": {} for n in range(30)}}}]
    found = {"name": name, "namespace": "team", "uid": f"uid-{name}", "creationTimestamp": NOW, "labels": labels or {},
             "annotations": {"aictl.dev/owner": "ada"}, "managedFields": managed}
    if owners:
        found["ownerReferences"] = owners
    found.update(more or {})
    return found


def kueue(count):
    jobs, workloads = [], []
    condition = {"type": "QuotaReserved", "status": "False", "reason": "Pending", "lastTransitionTime": NOW,
                 "message": "couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu in flavor h100, 8 more needed"}
    for n in range(count):
        name = f"train-{n:05}-0a1b2c3d"
        labels = {"kueue.x-k8s.io/queue-name": "research", "aictl.dev/submission-id": f"{n:012x}"}
        jobs.append({"metadata": meta(name, labels=labels), "spec": {"suspend": True, "parallelism": 1, "template": pod("8")}, "status": {}})
        owner = [{"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": f"uid-{name}", "controller": True}]
        workloads.append({"metadata": meta(f"job-{name}", owners=owner),
                          "spec": {"active": True, "queueName": "research", "priority": n % 7, "podSets": [{"name": "main", "count": 1, "template": pod("8")}]},
                          "status": {"conditions": [condition]}})
    queue = {"metadata": meta("research"), "spec": {"clusterQueue": "all"}}
    return {"/apis/batch/v1/jobs": ("kueue.x-k8s.io/queue-name", jobs),
            "/apis/kueue.x-k8s.io/v1beta2/workloads": (None, workloads),
            "/apis/kueue.x-k8s.io/v1beta2/localqueues": (None, [queue])}


def volcano(count):
    jobs, groups = [], []
    for n in range(count):
        name = f"gang-{n:05}-0a1b2c3d"
        jobs.append({"metadata": meta(name), "status": {"state": {"phase": "Pending"}},
                     "spec": {"queue": "default", "minAvailable": 2, "tasks": [{"name": "node", "replicas": 2, "template": pod("8")}]}})
        owner = [{"apiVersion": "batch.volcano.sh/v1alpha1", "kind": "Job", "name": name, "uid": f"uid-{name}"}]
        groups.append({"metadata": meta(name, owners=owner), "spec": {"minMember": 2}, "status": {"phase": "Pending", "conditions": [
            {"type": "Unschedulable", "status": "True", "reason": "NotEnoughResources", "message": "2/2 tasks in gang unschedulable"}]}})
    return {"/apis/batch.volcano.sh/v1alpha1/jobs": (None, jobs), "/apis/scheduling.volcano.sh/v1beta1/podgroups": (None, groups)}


def plain(count):
    jobs = [{"metadata": meta(f"job-{n:05}-0a1b2c3d", labels={"aictl.dev/submission-id": f"{n:012x}"}),
             "spec": {"parallelism": 1, "template": pod("1")}, "status": {"active": 1, "startTime": NOW}} for n in range(count)]
    return {"/apis/batch/v1/jobs": ("aictl.dev/submission-id", jobs)}


GROUPS = {
    "kueue": [("batch", "v1", "Job", "jobs"), ("kueue.x-k8s.io", "v1beta2", "Workload", "workloads"),
              ("kueue.x-k8s.io", "v1beta2", "LocalQueue", "localqueues"), ("kueue.x-k8s.io", "v1beta2", "ClusterQueue", "clusterqueues")],
    "volcano": [("batch", "v1", "Job", "jobs"), ("batch.volcano.sh", "v1alpha1", "Job", "jobs"),
                ("scheduling.volcano.sh", "v1beta1", "PodGroup", "podgroups"), ("scheduling.volcano.sh", "v1beta1", "Queue", "queues")],
    "kubernetes": [("batch", "v1", "Job", "jobs")],
}


def discovery(kind):
    items = []
    for group, version, name, plural in GROUPS[kind]:
        item = next((item for item in items if item["metadata"]["name"] == group), None)
        if item is None:
            item = {"metadata": {"name": group}, "versions": [{"version": version, "resources": []}]}
            items.append(item)
        item["versions"][0]["resources"].append({"resource": plural, "responseKind": {"group": group, "version": version, "kind": name}, "scope": "Namespaced", "verbs": ["list"]})
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": items}


def slurm(count):
    jobs = [{"array_job_id": 0, "array_task_id": None, "array_task_string": "", "job_id": n + 1, "name": f"train-{n}", "user_name": "ada",
             "account": "team", "partition": "main", "job_state": "PENDING", "state_reason": "Priority", "priority": 4294900000 - n,
             "node_count": 1, "tasks": 1, "cpus": 8, "tres_per_node": "gres:gpu:8", "tres_req_str": "cpu=8,mem=64G,node=1,billing=8,gres/gpu=8",
             "submit_time": 1767225600, "start_time": 0, "time_limit": 60, "exit_code": 0, "comment": f"aictl:{n:012x}",
             "standard_output": f"/home/ada/slurm-{n}.out", "command": "/home/ada/train.sh", "current_working_directory": "/home/ada",
             **{f"another_key_{k}": "some text or other" for k in range(40)}} for n in range(count)]
    paths = {f"/slurm/v0.0.38/{name}": {"get": {}, "post": {}} for name in ["jobs", "nodes", "partitions", "job/submit", "job/{job_id}"]}
    return {"/openapi/v3": {"paths": paths}, "/slurm/v0.0.38/jobs": {"errors": [], "jobs": jobs},
            "/slurm/v0.0.38/nodes": {"errors": [], "nodes": []}, "/slurm/v0.0.38/partitions": {"errors": [], "partitions": []}}


def ray(count):
    jobs = [{"type": "SUBMISSION", "job_id": None, "submission_id": f"train-{n}-abc", "status": "PENDING", "entrypoint": "python train.py",
             "message": "Job has not started yet.", "start_time": 1767225600000, "end_time": None,
             "metadata": {"job_name": f"train-{n}", "aictl.dev/id": f"{n:012x}", "aictl.dev/name": f"train-{n}", "aictl.dev/nodes": "1", "aictl.dev/gpus-per-node": "8"},
             "runtime_env": {"env_vars": {"AICTL_RAY_SPEC": "x" * 600, "AICTL_RAY_DRIVER": "y" * 3000}}} for n in range(count)]
    return {"/api/jobs/": jobs, "/api/version": {"version": "4", "ray_version": "2.60.0"}}


def serve(kind, count, send):
    lists = {"kueue": kueue, "volcano": volcano, "kubernetes": plain}.get(kind)
    pages, whole, made = {}, {}, {}
    if lists:
        for path, (label, objects) in lists(count).items():
            pages[path] = (label, [json.dumps(one).encode() for one in objects])
        whole["/apis"] = json.dumps(discovery(kind)).encode()
    else:
        whole = {path: json.dumps(value).encode() for path, value in (slurm if kind == "slurm" else ray)(count).items()}
    busy = multiprocessing.Value("d", 0.0)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, body, code=200):
            self.send_response(code)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            began = time.perf_counter()
            url = urllib.parse.urlsplit(self.path)
            asked = dict(urllib.parse.parse_qsl(url.query))
            # All objects are in one namespace.
            place = url.path.replace("/namespaces/team", "")
            above, _, name = place.rpartition("/")
            if url.path in whole:
                self.answer(whole[url.path])
            elif above in pages:
                wanted = f'{{"metadata": {{"name": "{name}",'.encode()
                found = [one for one in pages[above][1] if one.startswith(wanted)]
                self.answer(found[0] if found else b'{"kind":"Status","status":"Failure","reason":"NotFound","code":404,"message":"not found"}', 200 if found else 404)
            elif place in pages:
                label, objects = pages[place]
                wanted = asked.get("labelSelector")
                if label and wanted and wanted != label:
                    objects = []
                limit, start = int(asked.get("limit", 500)), int(asked.get("continue", 0))
                metadata = {"continue": str(start + limit)} if start + limit < len(objects) else {}
                self.answer(b'{"metadata":' + json.dumps(metadata).encode() + b',"items":[' + b",".join(objects[start:start + limit]) + b"]}")
            elif url.path == "/busy":
                self.answer(json.dumps(busy.value).encode())
                return
            elif url.path in made:
                self.answer(made[url.path])
            elif url.path.count("/") > 5:
                self.answer(json.dumps({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404, "message": "not found"}).encode(), 404)
            else:
                self.answer(b'{"metadata":{},"items":[]}')
            busy.value += time.perf_counter() - began

        def do_POST(self):
            began = time.perf_counter()
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            self.answer(body, 201)
            busy.value += time.perf_counter() - began

        def setup(self):
            super().setup()
            # Small answers leave at once.
            import socket
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        wbufsize = 1 << 16

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    send.send(server.server_address[1])
    server.serve_forever()


def run(command, environment):
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    out, err = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    if status != 0:
        sys.exit(f"{command}: status {status}\n{err.decode()}")
    return out, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aictl", default="target/release/aictl")
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    kinds, ports, servers = ["kueue", "volcano", "kubernetes", "slurm", "ray"], {}, []
    for kind in kinds:
        receive, send = multiprocessing.Pipe(False)
        server = multiprocessing.Process(target=serve, args=(kind, options.jobs // len(kinds), send), daemon=True)
        server.start()
        servers.append(server)
        ports[kind] = receive
    ports = {kind: receive.recv() for kind, receive in ports.items()}
    with tempfile.TemporaryDirectory() as folder:
        lines = ["targets:"]
        for kind, port in ports.items():
            if kind in GROUPS:
                path = os.path.join(folder, kind)
                with open(path, "w") as file:
                    file.write(f"apiVersion: v1\nkind: Config\ncurrent-context: {kind}\ncontexts: [{{name: {kind}, context: {{cluster: c, user: u, namespace: team}}}}]\n"
                               f"clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{port}'}}}}]\nusers: [{{name: u, user: {{}}}}]\n")
                lines.append(f"- {{name: {kind}, engine: {kind}, kubeconfig: {path}}}")
            else:
                lines.append(f"- {{name: {kind}, engine: {kind}, address: 'http://127.0.0.1:{port}'}}")
        config = os.path.join(folder, "config.yaml")
        with open(config, "w") as file:
            file.write("\n".join(lines) + "\n")
        environment = {"PATH": "/usr/bin:/bin", "HOME": folder, "LANG": "C.UTF-8", "COLUMNS": "120"}
        print(f"{'OUTPUT':<8} {'JOBS':>6} {'WALL S':>8} {'WORST S':>8} {'CPU S':>7} {'PEAK MB':>8}")
        for output in ["name", "table", "json"]:
            command = [options.aictl, "queue", "list", "--config", config, "-o", output]
            ran = [run(command, environment) for _ in range(options.runs)]
            out = ran[0][0]
            rows = len(json.loads(out)) if output == "json" else out.count(b"\n") - (output == "table")
            if rows != options.jobs // len(kinds) * len(kinds):
                sys.exit(f"{rows} rows, not {options.jobs}")
            walls = [wall for _, wall, _, _ in ran]
            print(f"{output:<8} {rows:>6} {statistics.median(walls):>8.3f} {max(walls):>8.3f} "
                  f"{statistics.median(cpu for _, _, cpu, _ in ran):>7.3f} {max(peak for *_, peak in ran):>8.1f}", flush=True)
        # A cluster without jobs: what is measured is a submission.
        import urllib.request
        busy = lambda: float(urllib.request.urlopen(f"http://127.0.0.1:{ports['kubernetes']}/busy").read())
        own = []
        for n in range(options.runs * 4):
            before = busy()
            _, wall, cpu, _ = run([options.aictl, "submit", "--config", config, "--to", "kubernetes", "--id", f"id{n}", "--image", "i", "-q", "--", "true"], environment)
            own.append((wall, wall - (busy() - before), cpu))
        print(f"\nsubmit: wall {statistics.median(w for w, *_ in own) * 1e3:.1f} ms, without the server's share "
              f"{statistics.median(o for _, o, _ in own) * 1e3:.1f} ms (worst {max(o for _, o, _ in own) * 1e3:.1f}), processor {statistics.median(c for *_, c in own) * 1e3:.1f} ms")


if __name__ == "__main__":
    main()
