"""Machines for tests: network namespaces with cables between them, gone with the test."""
import os
import subprocess
import uuid


def run(*command, check=True, timeout=60, **more):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, **more)
    if check:
        assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


class Namespace:
    """A network namespace that this test made."""

    def __init__(self, name):
        self.name = f"fs-{name}-{uuid.uuid4().hex[:6]}"
        self.prefix = ["ip", "netns", "exec", self.name]
        run("ip", "netns", "add", self.name)
        self.run("ip", "link", "set", "lo", "up")

    def run(self, *command, **more):
        return run(*self.prefix, *command, **more)

    def remove(self):
        """Ends what still runs in it, by pid, and removes it."""
        for pid in run("ip", "netns", "pids", self.name, check=False).stdout.split():
            try:
                os.kill(int(pid), 9)
            except ProcessLookupError:
                pass
        run("ip", "netns", "del", self.name, check=False)


def cable(a, a_name, b, b_name):
    """A veth between two namespaces. Checksums are finished before packets leave: a userspace switch passes them on as they are."""
    x, y = f"v{uuid.uuid4().hex[:8]}", f"v{uuid.uuid4().hex[:8]}"
    run("ip", "link", "add", x, "type", "veth", "peer", "name", y)
    for namespace, temporary, name in ((a, x, a_name), (b, y, b_name)):
        run("ip", "link", "set", temporary, "netns", namespace.name)
        namespace.run("ip", "link", "set", temporary, "name", name)
        namespace.run("ip", "link", "set", name, "up")
        namespace.run("ethtool", "-K", name, "tx", "off")
