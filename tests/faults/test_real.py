"""kill -9 of the daemons, of a guest, of the switch, and hands in its flows and taps, while real guests run: all is mended, and no guest notices
what is not its own.

The cloud is one network namespace, with its own Open vSwitch; guests are asked over floating IPs from another, which needs every part of the
data plane.
"""
import json
import os
import pathlib
import signal
import subprocess

import pytest

from cloud import FERROSTACK, ROOT, Cloud, wait_until
from namespaces import Namespace, cable, run

BOOT = 180
MENDED = 60


@pytest.fixture(scope="module")
def image():
    """The tiny guest with the login of the lab. Built once per machine: packages are fetched."""
    built = ROOT / "target" / "lab-image.qcow2"
    if not built.exists():
        run(FERROSTACK, "image", "build-tiny", str(built), "--user", "ubuntu", "--password", "ubuntu", timeout=600)
    return built


@pytest.fixture(scope="module")
def machines():
    cloud, outside = Namespace("faults"), Namespace("faultsout")
    try:
        cable(cloud, "eth0", outside, "eth0")
        outside.run("ip", "addr", "add", "10.0.0.1/8", "dev", "eth0")
        yield cloud, outside
    finally:
        for namespace in (cloud, outside):
            namespace.remove()


class Real:
    """The cloud and its guests, as an operator with a hand in everything sees them."""

    def __init__(self, cloud, inside, outside):
        self.cloud, self.inside, self.outside = cloud, inside, outside
        self.instances = cloud.state / "node" / "instances"
        self.rundir = self.status()["openvswitch"]["rundir"]
        self.floating = {}

    def status(self):
        done = self.cloud.ferrostack("status", "--json", "--state-dir", str(self.cloud.state), check=False)
        return json.loads(done.stdout)

    def daemon(self, name):
        (process,) = [p for p in self.status()["processes"] if p["name"].startswith(f"ferrostack-{name}")]
        return process["pid"] if process["state"] == "running" else None

    def kill_daemon(self, name):
        """kill -9; returns once its supervisor has started another and all services answer."""
        before = wait_until(lambda: self.daemon(name), 30, f"the {name} runs")
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: (p := self.daemon(name)) and p != before and self.status()["healthy"], MENDED, f"the {name} is back")

    def ovs(self, program, *arguments, **more):
        return self.inside.run("env", f"OVS_RUNDIR={self.rundir}", f"OVS_DBDIR={self.rundir}", program, *arguments, **more)

    def flows(self):
        """How many flows br-int has; 0 while the switch does not answer."""
        done = self.ovs("ovs-ofctl", "-O", "OpenFlow15", "dump-aggregate", f"unix:{self.rundir}/br-int.mgmt", check=False)
        found = [w for w in done.stdout.split() if w.startswith("flow_count=")]
        return int(found[0].split("=")[1]) if found else 0

    def pid(self, id):
        """The guest's QEMU, or None."""
        try:
            pid = int((self.instances / id / "run" / "qemu.pid").read_text())
            return pid if b"qemu" in command_line(pid) else None
        except (OSError, ValueError):
            return None

    def show(self, id):
        done = self.cloud.run("server", "show", id, "-f", "json", check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def create(self, name):
        """Asked for; returns its id."""
        return self.cloud.openstack("server", "create", "--flavor", "m1.nano", "--image", "tiny", "--network", "tenant", name)["id"]

    def reaches(self, id, state, seconds=MENDED):
        server = wait_until(
            lambda: (s := self.show(id)) and s["status"] in (state, "ERROR") and not s["OS-EXT-STS:task_state"] and s, seconds, f"{id} is {state}"
        )
        assert server["status"] == state, server.get("fault")
        return server

    def answers(self, id, seconds=MENDED):
        """Waits for an answer to a ping from outside."""
        ping = lambda: self.outside.run("ping", "-c", "1", "-W", "1", self.floating[id], check=False).returncode == 0
        wait_until(ping, seconds, f"an answer of {id} at {self.floating[id]}")

    def findings(self):
        done = self.cloud.ferrostack("db", "check", "--json", "--state-dir", str(self.cloud.state), check=False)
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def agrees(self):
        """Tables, processes and flows agree, once what is under way has come to its end."""
        try:
            wait_until(lambda: self.findings() == [], 30, "db check")
        except AssertionError:
            raise AssertionError(self.findings()) from None


@pytest.fixture(scope="module")
def real(machines, image):
    inside, outside = machines
    before = links(inside)
    with Cloud("--no-demo", "--public-host", "127.0.0.1", prefix=inside.prefix) as cloud:
        r = Real(cloud, inside, outside)
        r.links = before
        r.ovs("ovs-vsctl", "add-port", "br-ex", "eth0")
        cloud.run("network", "create", "--provider-physical-network", "extnet", "--provider-network-type", "flat", "--external", "ext_net")
        cloud.run(
            "subnet", "create", "ext_net_subnet", "--network", "ext_net", "--subnet-range", "10.0.0.0/8",
            "--allocation-pool", "start=10.5.117.101,end=10.5.117.199", "--gateway", "10.0.0.1", "--no-dhcp",
        )
        cloud.run("network", "create", "tenant")
        cloud.run("subnet", "create", "tenant", "--network", "tenant", "--subnet-range", "172.16.1.0/24")
        cloud.run("router", "create", "--external-gateway", "ext_net", "r1")
        cloud.run("router", "add", "subnet", "r1", "tenant")
        cloud.run("flavor", "create", "--id", "42", "--vcpus", "1", "--ram", "192", "--disk", "1", "m1.nano")
        cloud.run("image", "create", "--disk-format", "qcow2", "--container-format", "bare", "--file", str(image), "tiny")
        project = cloud.admin["OS_PROJECT_NAME"]
        cloud.run("security", "group", "rule", "create", "--protocol", "icmp", "--project", project, default_group(cloud))
        yield r


def default_group(cloud):
    project = cloud.openstack("project", "show", cloud.admin["OS_PROJECT_NAME"])["id"]
    (group,) = [g["ID"] for g in cloud.openstack("security", "group", "list", "--project", project) if g["Name"] == "default"]
    return group


@pytest.fixture(scope="module")
def guests(real):
    """Two guests that answer from outside."""
    ids = [real.create(name) for name in ("one", "two")]
    for id in ids:
        real.reaches(id, "ACTIVE")
        real.floating[id] = real.cloud.openstack("floating", "ip", "create", "ext_net")["floating_ip_address"]
        real.cloud.run("server", "add", "floating", "ip", id, real.floating[id])
    for id in ids:
        real.answers(id, BOOT)
    return ids


def command_line(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def links(namespace):
    return {link["ifname"] for link in json.loads(namespace.run("ip", "-j", "link").stdout)}


@pytest.mark.parametrize("daemon", ["controller", "node"])
def test_guests_outlive_the_daemons(real, guests, daemon):
    before = {id: real.pid(id) for id in guests}
    assert all(before.values())
    real.kill_daemon(daemon)
    for id in guests:
        real.reaches(id, "ACTIVE")
        real.answers(id)
    assert {id: real.pid(id) for id in guests} == before, "no guest was restarted"
    real.agrees()


def test_a_killed_guest_is_shut_off_and_starts_again(real, guests):
    one, other = guests
    untouched = real.pid(other)
    os.kill(real.pid(one), signal.SIGKILL)
    real.reaches(one, "SHUTOFF")
    real.agrees()
    real.cloud.run("server", "start", one)
    real.reaches(one, "ACTIVE")
    real.answers(one, BOOT)
    assert real.pid(other) == untouched
    real.agrees()


def test_the_switch_comes_back_with_its_flows(real, guests):
    before = {id: real.pid(id) for id in guests}
    vswitchd = int((pathlib.Path(real.rundir) / "ovs-vswitchd.pid").read_text())
    os.kill(vswitchd, signal.SIGKILL)
    for id in guests:
        real.answers(id)
    assert int((pathlib.Path(real.rundir) / "ovs-vswitchd.pid").read_text()) != vswitchd
    assert {id: real.pid(id) for id in guests} == before, "no guest was restarted"
    real.agrees()


def test_deleted_flows_are_back(real, guests):
    before = real.flows()
    assert before > 50
    real.ovs("ovs-ofctl", "-O", "OpenFlow15", "del-flows", f"unix:{real.rundir}/br-int.mgmt")
    wait_until(lambda: real.flows() >= before, MENDED, "as many flows as before")
    for id in guests:
        real.answers(id)
    real.agrees()


def test_a_deleted_tap_port_is_plugged_again(real, guests):
    taps = real.ovs("ovs-vsctl", "list-ports", "br-int").stdout.split()
    tap = sorted(t for t in taps if t.startswith("tap") and len(t) == 14)[0]
    real.ovs("ovs-vsctl", "del-port", "br-int", tap)
    wait_until(lambda: tap in real.ovs("ovs-vsctl", "list-ports", "br-int").stdout.split(), MENDED, f"{tap} is plugged again")
    for id in guests:
        real.answers(id)
    real.agrees()


def test_a_create_and_a_delete_meet_the_end_of_the_node(real, guests):
    leaving = real.create("leaving")
    real.reaches(leaving, "ACTIVE")
    coming = real.create("coming")
    os.kill(wait_until(lambda: real.daemon("node"), 30, "the node runs"), signal.SIGKILL)
    real.cloud.run("server", "delete", leaving)
    real.reaches(coming, "ACTIVE", 120)
    wait_until(lambda: real.show(leaving) is None and not (real.instances / leaving).exists(), MENDED, "it is gone, with its folder")
    assert real.pid(coming)
    real.cloud.run("server", "delete", "--wait", coming)
    real.agrees()


def test_purging_leaves_nothing(real, guests):
    """The last one: it takes the cloud down under its guests."""
    pids = [real.pid(id) for id in guests]
    assert all(pids)
    real.cloud.down()
    left = run("ip", "netns", "pids", real.inside.name, check=False).stdout.split()
    assert left == [], subprocess.run(["ps", "-o", "pid,args", *left], capture_output=True, text=True).stdout
    # QEMU runs in the namespace of the node; this would find one that left it. What has ended has no command line, even before it is reaped.
    assert not any(command_line(pid) for pid in pids)
    assert links(real.inside) == real.links, "no tap and no bridge is left"
    assert not real.cloud.state.exists()
