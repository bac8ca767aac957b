"""What the tests of whole jobs share: running the command with real ranks, and proof that nothing is left.

Every process of a test carries FLOTILLA_TEST_MARK in its environment, which ranks inherit; so a process
that outlives its command is found whoever its parent is by then. Scratch files of a job go to a TMPDIR of
the test, its shared memory to a locked folder in /dev/shm: an unlocked new one was left behind.
"""
import array
import fcntl
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import unittest

BINARY = os.environ["FLOTILLA_BINARY_DIR"]
SOURCE = os.environ["FLOTILLA_SOURCE_DIR"]
FLOTILLA = os.path.join(BINARY, "flotilla")
COORDINATOR = os.path.join(BINARY, "flotilla-coordinator")
WORKER = os.path.join(BINARY, "flotilla-worker")
TINY = os.path.join(SOURCE, "tests/golden/tiny-omni")
SLICE = os.path.join(SOURCE, "tests/golden/slice8-config")
SANITIZED = os.environ.get("FLOTILLA_SANITIZE", "") != ""
SLOWER = (10 if SANITIZED else 1) * max(1.0, os.getloadavg()[0] / os.cpu_count())  # how much longer a wait may be
MPI_ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_oob_tcp_if_include": "lo", "OMPI_MCA_btl_tcp_if_include": "lo",
    "OMPI_MCA_btl_vader_eager_limit": "65536", "OMPI_MCA_btl_vader_max_send_size": "131072"}


def processes_with(mark):
    """{pid: name} of living processes with this mark in their environment."""
    wanted, found = f"FLOTILLA_TEST_MARK={mark}".encode(), {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as f:
                if wanted not in f.read().split(b"\0"):
                    continue
            with open(f"/proc/{pid}/stat") as f:
                name, _, rest = f.read().partition("(")[2].rpartition(")")
            if rest.split()[0] != "Z":
                found[int(pid)] = name
        except OSError:
            continue
    return found


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_folders():
    """Folders of jobs in /dev/shm that nobody holds."""
    left = []
    for name in os.listdir("/dev/shm"):
        path = os.path.join("/dev/shm", name)
        if name.startswith("flotilla-run-"):
            try:
                fd = os.open(path, os.O_RDONLY)
            except OSError:
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.append(path)
            except OSError:
                pass
            os.close(fd)
    return left


def ids_of(n, seed, vocabulary=3000):
    """Token ids that look like nothing in particular."""
    r = random.Random(seed)
    return ",".join(str(r.randrange(vocabulary)) for _ in range(n))


def read_dump(path):
    """{name: (dtype, shape, bytes)} of a safetensors file."""
    with open(path, "rb") as f:
        n, = struct.unpack("<Q", f.read(8))
        header, data = json.loads(f.read(n)), f.read()
    return {k: (v["dtype"], v["shape"], data[v["data_offsets"][0]:v["data_offsets"][1]])
            for k, v in header.items() if k != "__metadata__"}


def floats(tensor):
    return array.array("f", tensor[2])


def relative_error(a, b):
    """Largest difference over the largest value."""
    scale = max(abs(x) for x in b)
    return max(abs(x - y) for x, y in zip(a, b)) / scale


def dummy_folder(folder, text=None, talker=None):
    """A config.json of real widths, with some of its numbers changed and encoders of few layers; for --load-format dummy."""
    with open(os.path.join(SLICE, "config.json")) as f:
        config = json.load(f)
    config["thinker_config"]["audio_config"].update({"encoder_layers": 2, "num_hidden_layers": 2})
    config["thinker_config"]["vision_config"].update({"depth": 4, "deepstack_visual_indexes": [0, 1, 2]})
    config["thinker_config"]["text_config"].update(text or {})
    config["talker_config"].update(talker or {})
    os.mkdir(folder)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f)
    return folder


class RealJob(unittest.TestCase):
    """One scratch folder and one mark for each test; the end of a test asserts that nothing is left."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="flotilla-test-")
        self.tmp = os.path.join(self.folder, "tmp")
        os.mkdir(self.tmp)
        self.mark = os.path.basename(self.folder)
        self.started = []

    def tearDown(self):
        for p in self.started:
            if p.poll() is None:
                p.kill()
                p.wait()
            for pipe in (p.stdin, p.stdout, p.stderr):
                if pipe is not None:
                    pipe.close()
        left = processes_with(self.mark)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder)
        self.assertEqual(left, {}, "processes are left")

    def path(self, name):
        return os.path.join(self.folder, name)

    def environment(self, **more):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("FLOTILLA_MODEL", "SLURM", "OMPI_"))}
        env.update(FLOTILLA_TEST_MARK=self.mark, TMPDIR=self.tmp, **more)
        return {k: v for k, v in env.items() if v is not None}

    def start(self, *words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=None):
        p = subprocess.Popen([str(w) for w in words], stdin=stdin, stdout=stdout, stderr=subprocess.PIPE,
                             env=self.environment(**(env or {})), cwd=self.folder)
        self.started.append(p)
        return p

    def run_it(self, *words, stdin=b"", seconds=60, env=None, within=0.0):
        """Runs to the end; sets out, err, code. Fails where anything is left `within` seconds later."""
        p = self.start(*words, stdin=subprocess.PIPE, env=env)
        self.out, self.err = (x.decode(errors="replace") for x in p.communicate(stdin, timeout=seconds * SLOWER))
        self.code = p.returncode
        self.nothing_left(within, files=True)
        return self.code

    def flotilla(self, *words, **more):
        return self.run_it(FLOTILLA, *words, **more)

    def mpirun(self, n_workers, *words, **more):
        more["env"] = dict(MPI_ENVIRONMENT, **(more.get("env") or {}))
        more.setdefault("within", 2.0)  # mpirun may be gone before a rank that it has killed is
        return self.run_it("mpirun", "--oversubscribe", "--bind-to", "none", "-np", 1, COORDINATOR, *words,
                           ":", "-np", n_workers, WORKER, **more)

    def answer(self, *words, model=TINY, **more):
        """The document of `generate --json`."""
        self.assertEqual(self.flotilla("generate", "--json", "--quiet", "--model", model, *words, **more), 0, self.err)
        return json.loads(self.out)

    def nothing_left(self, within=0.0, files=False):
        until = time.monotonic() + within * SLOWER
        while True:
            left = processes_with(self.mark)
            if not left or time.monotonic() > until:
                break
            time.sleep(0.05)
        self.assertEqual(left, {}, "processes are left")
        if files or not within:
            self.assertEqual([f for f in os.listdir(self.tmp) if "cuda" not in f], [], "files are left")

    def wait_for(self, name, n, seconds=10):
        """Pids of the n living processes of this name."""
        until = time.monotonic() + seconds * SLOWER
        while True:
            pids = sorted(p for p, its in processes_with(self.mark).items() if its == name[:15])
            if len(pids) >= n:
                return pids
            self.assertLess(time.monotonic(), until, f"only {len(pids)} of {n} {name}")
            time.sleep(0.02)

    def one_line(self, part="", code=None):
        """Standard error is one line, the sentence; standard output is empty."""
        lines = self.err.splitlines()
        self.assertEqual(len(lines), 1, self.err)
        self.assertTrue(lines[0].startswith("flotilla: error: "), self.err)
        self.assertIn(part, lines[0])
        self.assertEqual(self.out, "")
        if code is not None:
            self.assertEqual(self.code, code, self.err)
