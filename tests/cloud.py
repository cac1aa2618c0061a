"""A cloud for a test: brought up and taken down by the program's own commands, used by the real clients."""
import json
import os
import pathlib
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
FERROSTACK = os.environ.get("FERROSTACK", str(ROOT / "target/debug/ferrostack"))
CLIENTS = pathlib.Path(os.environ.get("CLIENTS", str(ROOT / "target/venvs/clients/bin")))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_until(condition, seconds, what):
    """The first true value of condition(); fails after so many seconds."""
    end = time.monotonic() + seconds
    pause = 0.01
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(pause)
        pause = min(pause * 1.5, 0.5)


def rc(path):
    """The OS_* variables that sourcing a keystonerc file sets, as a shell has them."""
    script = f'unset ${{!OS_@}}; . "{path}"; for v in ${{!OS_@}}; do printf "%s=%s\\0" "$v" "${{!v}}"; done'
    out = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout
    return dict(item.split("=", 1) for item in out.split("\0") if item)


class Cloud:
    """One cloud in a folder of its own."""

    def __init__(self, *up_arguments, prefix=()):
        self.folder = tempfile.TemporaryDirectory(prefix="ferrostack-test-")
        # The controller's own user passes through it.
        os.chmod(self.folder.name, 0o755)
        self.state = pathlib.Path(self.folder.name) / "state"
        self.prefix = list(prefix)
        self.up_arguments = list(up_arguments)

    def ferrostack(self, *arguments, check=True, timeout=600, **more):
        command = self.prefix + [FERROSTACK, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, **more)
        if check:
            assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def up(self):
        done = self.ferrostack("up", "--yes", "--state-dir", str(self.state), *self.up_arguments)
        self.admin = rc(self.state / "keystonerc_admin")
        return done

    def down(self):
        return self.ferrostack("down", "--purge", "--yes", "--state-dir", str(self.state))

    def __enter__(self):
        try:
            self.up()
        except BaseException:
            subprocess.run(self.prefix + [FERROSTACK, "down", "--purge", "--yes", "--state-dir", str(self.state)], capture_output=True)
            raise
        return self

    def __exit__(self, *_):
        self.down()
        self.folder.cleanup()

    def environment(self, **override):
        kept = {k: v for k, v in os.environ.items() if not k.startswith("OS_")}
        return kept | self.admin | {"PYTHONWARNINGS": "ignore", "PATH": f"{CLIENTS}:{os.environ['PATH']}"} | override

    def run(self, *arguments, check=True, stdin=None, timeout=120, **env):
        """The `openstack` client."""
        command = self.prefix + [str(CLIENTS / "openstack"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, input=stdin, env=self.environment(**env))
        if check:
            assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done

    def openstack(self, *arguments, **env):
        """The client's answer as JSON, or None where it prints nothing."""
        out = self.run(*arguments, "-f", "json", **env).stdout
        return json.loads(out) if out.strip() else None


def simulated(*more):
    """A simulated cloud on a free port of loopback."""
    return Cloud("--simulate", "--listen", "127.0.0.1", "--api-port", str(free_port()), *more)
