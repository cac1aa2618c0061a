"""LAB.md, steps 1 to 8, as an operator and a student type them: unmodified clients, real guests, real packets, and an `outside` host.

The cloud is one network namespace, the outside host another; between them is the cable whose cloud end becomes a port of br-ex.
"""
import json

import re

import stat
import subprocess
import urllib.parse

import pytest

from cloud import FERROSTACK, ROOT, Cloud, wait_until
from namespaces import Namespace, cable, run

BOOT = 180


@pytest.fixture(scope="module")
def image():
    """The tiny guest with the login of the lab. Built once per machine: packages are fetched."""
    built = ROOT / "target" / "lab-image.qcow2"
    if not built.exists():
        run(FERROSTACK, "image", "build-tiny", str(built), "--user", "ubuntu", "--password", "ubuntu", timeout=600)
    return built


@pytest.fixture(scope="module")
def machines():
    cloud, outside = Namespace("cloud"), Namespace("outside")
    try:
        cable(cloud, "eth0", outside, "eth0")
        for address in ("10.0.0.1/8", "10.9.9.9/8"):
            outside.run("ip", "addr", "add", address, "dev", "eth0")
        yield cloud, outside
    finally:
        for namespace in (cloud, outside):
            namespace.remove()


@pytest.fixture(scope="module")
def cloud(machines):
    with Cloud("--no-demo", "--public-host", "127.0.0.1", prefix=machines[0].prefix) as c:
        yield c


@pytest.fixture(scope="module")
def lab(cloud, machines, image, tmp_path_factory):
    """Steps 3 to 6: what the servers of step 7 stand on."""
    inside, outside = machines
    show = lambda: ovs(cloud, inside, "ovs-vsctl", "show").stdout
    ovs(cloud, inside, "ovs-vsctl", "add-port", "br-ex", "eth0")
    wait_until(lambda: show().count("is_connected: true") >= 2, 20, "both bridges connected to the controller")

    cloud.run("network", "create", "--provider-physical-network", "extnet", "--provider-network-type", "flat", "--external", "ext_net")
    cloud.run(
        "subnet", "create", "ext_net_subnet", "--network", "ext_net", "--subnet-range", "10.5.117.0/8",
        "--allocation-pool", "start=10.5.117.101,end=10.5.117.199", "--gateway", "10.0.0.1", "--dns-nameserver", "8.8.8.8", "--no-dhcp",
    )
    cloud.run("network", "set", "--external", "ext_net")
    cloud.run("network", "create", "tenant")
    cloud.run("subnet", "create", "tenant", "--network", "tenant", "--subnet-range", "172.16.1.0/24", "--dns-nameserver", "9.9.9.9")
    cloud.run("router", "create", "ADMIN_R1")
    cloud.run("router", "set", "--external-gateway", "ext_net", "ADMIN_R1")
    cloud.run("router", "add", "subnet", "ADMIN_R1", "tenant")
    cloud.run("flavor", "create", "--id", "6", "--vcpus", "1", "--ram", "1024", "--disk", "10", "m1.xsmall")
    cloud.run("flavor", "create", "--id", "42", "--vcpus", "1", "--ram", "192", "--disk", "1", "m1.nano")
    cloud.run("image", "create", "--disk-format", "qcow2", "--container-format", "bare", "--file", str(image), "UBUNTU1804")
    key = tmp_path_factory.mktemp("key") / "ubuntu1804"
    key.write_text(cloud.run("keypair", "create", "ubuntu1804").stdout)
    key.chmod(0o600)
    cloud.run("security", "group", "create", "WEBSRV_SG")
    for rule in (["--protocol", "icmp"], ["--protocol", "tcp", "--dst-port", "22"], ["--protocol", "tcp", "--dst-port", "80"]):
        cloud.run("security", "group", "rule", "create", *rule, "WEBSRV_SG")
    return key


@pytest.fixture(scope="module")
def servers(cloud, lab, machines):
    """Step 7: two web servers with floating IPs, reached from outside."""
    inside, outside = machines
    net = cloud.openstack("network", "show", "tenant")["id"]
    for name in ("WEBSRV1", "WEBSRV2"):
        cloud.run(
            "server", "create", "--flavor", "m1.nano", "--image", "UBUNTU1804", "--security-group", "WEBSRV_SG", "--key-name", "ubuntu1804",
            "--nic", f"net-id={net}", name,
        )
    made = {}
    for name in ("WEBSRV1", "WEBSRV2"):
        there = wait_until(
            lambda: (s := cloud.openstack("server", "show", name))["status"] in ("ACTIVE", "ERROR") and s, 60, f"{name} ACTIVE"
        )
        assert there["status"] == "ACTIVE", there.get("fault")
        floating = cloud.openstack("floating", "ip", "create", "ext_net")["floating_ip_address"]
        cloud.run("server", "add", "floating", "ip", name, floating)
        made[name] = {"id": there["id"], "fixed": there["addresses"]["tenant"][0], "floating": floating}
    for name, server in made.items():
        guest = Guest(outside, lab, server["floating"])
        wait_until(lambda: guest.try_ssh("true").returncode == 0, BOOT, f"ssh into {name}")
        server["guest"] = guest
    return made


def ovs(cloud, inside, program, *arguments):
    """ovs-vsctl and its kin against the cloud's own Open vSwitch."""
    rundir = json.loads(cloud.ferrostack("status", "--json", "--state-dir", str(cloud.state)).stdout)["openvswitch"]["rundir"]
    return inside.run("env", f"OVS_RUNDIR={rundir}", f"OVS_DBDIR={rundir}", program, *arguments)


class Guest:
    """A guest as ssh from outside sees it."""

    def __init__(self, outside, key, address, user="ubuntu"):
        self.outside, self.key, self.address, self.user = outside, key, address, user

    def try_ssh(self, command, key=None, password=False, stdin=None):
        options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=5", "-o", "LogLevel=ERROR",
                   "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-i", str(key or self.key)]
        line = [*self.outside.prefix, "ssh", *options, f"{self.user}@{self.address}", command]
        return subprocess.run(line, capture_output=True, text=True, timeout=60, input=stdin)

    def ssh(self, command, **more):
        done = self.try_ssh(command, **more)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()


def curl(namespace, url, seconds=5):
    return namespace.run("curl", "-s", "--max-time", seconds, url, check=False, timeout=30)


def test_1_up_writes_credentials_for_their_owner_alone(cloud):
    for name in ("keystonerc_admin", "clouds.yaml"):
        assert stat.S_IMODE((cloud.state / name).stat().st_mode) == 0o600
    assert r"[\u@\h \W(keystone_admin)]\$ " in (cloud.state / "keystonerc_admin").read_text()
    assert "already" in cloud.up().stdout


def test_2_users_get_their_role_through_a_group(cloud):
    cloud.run("project", "create", "demo")
    cloud.run("group", "create", "dev")
    for user in ("devuser1", "devuser2"):
        cloud.run("user", "create", "--project", "demo", "--password", "s3cret", user)
    cloud.run("group", "add", "user", "dev", "devuser1", "devuser2")
    cloud.run("role", "add", "--group", "dev", "--project", "demo", "member")
    for user in ("devuser1", "devuser2"):
        as_user = {"OS_USERNAME": user, "OS_PASSWORD": "s3cret", "OS_PROJECT_NAME": "demo"}
        assert cloud.openstack("token", "issue", **as_user)["id"]
        refused = cloud.run("user", "list", check=False, **as_user)
        assert "You are not authorized to perform the requested action: identity:list_users." in refused.stderr
        assert "403" in refused.stderr


def test_3_the_bridges_are_as_the_lab_shows_them(cloud, lab, machines):
    shown = ovs(cloud, machines[0], "ovs-vsctl", "show").stdout
    bridge = shown[shown.index("Bridge br-ex"):]
    bridge = bridge[: bridge.index("Bridge", 7)] if "Bridge" in bridge[7:] else bridge
    lines = [" ".join(line.split()).replace('"', "") for line in bridge.splitlines()]
    for expected in ("Controller tcp:127.0.0.1:6633", "is_connected: true", "fail_mode: secure", "Port phy-br-ex", "Interface phy-br-ex", "type: patch",
                     "options: {peer=int-br-ex}", "Port br-ex", "Interface br-ex", "type: internal", "Port eth0", "Interface eth0"):
        assert expected in lines, f"{expected} is not in\n{shown}"
    assert cloud.openstack("subnet", "show", "ext_net_subnet")["cidr"] == "10.0.0.0/8"


def test_4_the_router_answers_on_both_sides(servers, cloud, machines):
    router = cloud.openstack("router", "show", "ADMIN_R1")
    gateway = router["external_gateway_info"]["external_fixed_ips"][0]["ip_address"]
    machines[1].run("ping", "-c", "2", "-W", "3", gateway)
    servers["WEBSRV1"]["guest"].ssh("ping -c 2 -W 3 172.16.1.1")


def test_5_flavors(cloud, lab):
    flavors = {f["ID"]: (f["Name"], f["RAM"], f["Disk"], f["VCPUs"]) for f in cloud.openstack("flavor", "list")}
    flavors.pop("42")
    assert flavors == {
        "1": ("m1.tiny", 512, 1, 1), "2": ("m1.small", 2048, 20, 1), "3": ("m1.medium", 4096, 40, 2),
        "4": ("m1.large", 8192, 80, 4), "5": ("m1.xlarge", 16384, 160, 8), "6": ("m1.xsmall", 1024, 10, 1),
    }


def test_7_only_the_key_s_owner_gets_in(servers, tmp_path):
    other = tmp_path / "other"
    run("ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", other)
    guest = servers["WEBSRV2"]["guest"]
    assert guest.ssh("id -un") == "ubuntu"
    refused = guest.try_ssh("true", key=other)
    assert refused.returncode == 255 and "denied" in refused.stderr.lower()


def test_7_dhcp_gave_the_guest_what_it_needs(servers, cloud):
    server = servers["WEBSRV2"]
    guest = server["guest"]
    assert server["fixed"] in guest.ssh("ip -4 addr show eth0")
    assert "mtu 1450" in guest.ssh("ip link show eth0")
    assert "default via 172.16.1.1" in guest.ssh("ip route")
    assert "nameserver 9.9.9.9" in guest.ssh("cat /etc/resolv.conf")
    assert guest.ssh("hostname").split(".")[0] == "websrv2"
    meta = json.loads(guest.ssh("curl -s http://169.254.169.254/openstack/latest/meta_data.json"))
    assert meta["uuid"] == server["id"] and meta["name"] == "WEBSRV2"
    other = json.loads(servers["WEBSRV1"]["guest"].ssh("curl -s http://169.254.169.254/openstack/latest/meta_data.json"))
    assert other["uuid"] == servers["WEBSRV1"]["id"]


def test_7_what_the_guest_sends_out_comes_from_the_router_or_its_floating_ip(servers, machines):
    outside = machines[1]
    port = 8123
    listener = subprocess.Popen(
        [*outside.prefix, "python3", "-c", f"import socket\ns=socket.create_server(('0.0.0.0',{port}))\nprint('ready',flush=True)\nc,a=s.accept()\nprint(a[0],flush=True)\nc.sendall(b'hello\\n')\nc.close()"],
        stdout=subprocess.PIPE, text=True,
    )
    try:
        assert listener.stdout.readline().strip() == "ready"
        servers["WEBSRV1"]["guest"].ssh(f"nc -w 5 10.9.9.9 {port} < /dev/null")
        assert listener.stdout.readline().strip() == servers["WEBSRV1"]["floating"]
    finally:
        listener.kill()


def test_7_a_web_server_with_an_edited_page(servers, machines, cloud):
    outside = machines[1]
    for name, server in servers.items():
        guest = server["guest"]
        guest.ssh("printf 'r00t-pw\\nr00t-pw\\n' | sudo passwd root")
        assert guest.ssh("sudo su root -c 'id -un'") == "root"
        guest.ssh(f"sudo mkdir -p /var/www && echo 'edited page of {name}' | sudo tee /var/www/index.html && "
                  "(sudo killall httpd || true) && sudo busybox httpd -p 80 -h /var/www")
        page = wait_until(lambda: curl(outside, f"http://{server['floating']}/").stdout, 20, f"the page of {name}")
        assert page.strip() == f"edited page of {name}"

    rules = cloud.openstack("security", "group", "rule", "list", "WEBSRV_SG", "--ingress", "--protocol", "tcp")
    (web,) = [r["ID"] for r in rules if r["Port Range"] == "80:80"]
    cloud.run("security", "group", "rule", "delete", web)
    closed = wait_until(lambda: curl(outside, f"http://{servers['WEBSRV2']['floating']}/", 2).returncode == 28, 20, "port 80 closed")
    assert closed
    cloud.run("security", "group", "rule", "create", "--protocol", "tcp", "--dst-port", "80", "WEBSRV_SG")
    wait_until(lambda: curl(outside, f"http://{servers['WEBSRV2']['floating']}/", 2).returncode == 0, 20, "port 80 open again")


def test_8_screens_and_serial_log(servers, cloud, machines):
    inside = machines[0]
    log = cloud.run("console", "log", "show", "WEBSRV2").stdout
    assert "login:" in log
    vnc = sorted(
        int(m.group(1)) for m in re.finditer(r":(59\d\d)\s", inside.run("ss", "-Hltn").stdout)
    )
    assert len(vnc) == 2, "a port of its own for each guest"
    greeting = inside.run("bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{vnc[0]}; head -c 12 <&3").stdout
    assert greeting.startswith("RFB 003.")
    url = cloud.openstack("console", "url", "show", "WEBSRV2")["url"]
    assert "noVNC" in inside.run("curl", "-s", url).stdout
    path = "/" + urllib.parse.parse_qs(urllib.parse.urlsplit(url).query)["path"][0]
    host = re.match(r"http://([^/]+)/", url).group(1)
    script = (
        "import socket,sys\nh,p=sys.argv[1].split(':')\ns=socket.create_connection((h,int(p)),10)\n"
        "s.sendall(('GET '+sys.argv[2]+' HTTP/1.1\\r\\nHost: '+sys.argv[1]+'\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n'"
        "'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\nSec-WebSocket-Version: 13\\r\\nSec-WebSocket-Protocol: binary\\r\\n\\r\\n').encode())\n"
        "s.settimeout(10)\nd=b''\nwhile b'RFB' not in d and b'HTTP/1.1 4' not in d:\n c=s.recv(4096)\n if not c: break\n d+=c\nprint(d)"
    )
    first = inside.run("python3", "-c", script, host, path).stdout
    assert "101 Switching Protocols" in first and "RFB 003" in first
    second = inside.run("python3", "-c", script, host, path).stdout
    assert "403" in second, "a console token opens one connection, once"


def test_9_without_floating_ips_only_the_tenant_network_is_left(servers, cloud, machines):
    outside = machines[1]
    one, two = servers["WEBSRV1"], servers["WEBSRV2"]
    cloud.run("server", "remove", "floating", "ip", "WEBSRV2", two["floating"])
    # The other way round is asked over the one that is left, and then from its console's side: its own web server.
    assert one["guest"].ssh(f"curl -s --max-time 5 http://{two['fixed']}/") == "edited page of WEBSRV2"
    wait_until(lambda: curl(outside, f"http://{two['floating']}/", 2).returncode != 0, 20, "the floating IP is gone")
    assert outside.run("ping", "-c", "1", "-W", "2", two["floating"], check=False).returncode != 0
    cloud.run("server", "remove", "floating", "ip", "WEBSRV1", one["floating"])
    wait_until(lambda: curl(outside, f"http://{one['floating']}/", 2).returncode != 0, 20, "the floating IP is gone")
    cloud.run("server", "add", "floating", "ip", "WEBSRV2", two["floating"])
    wait_until(lambda: two["guest"].try_ssh("true").returncode == 0, 30, "ssh again")
    assert two["guest"].ssh(f"curl -s --max-time 5 http://{one['fixed']}/") == "edited page of WEBSRV1"


def test_stop_start_and_delete_leave_nothing(servers, cloud, machines):
    cloud.run("server", "stop", "WEBSRV1")
    wait_until(lambda: cloud.openstack("server", "show", "WEBSRV1")["status"] == "SHUTOFF", 90, "SHUTOFF")
    cloud.run("server", "start", "WEBSRV1")
    wait_until(lambda: cloud.openstack("server", "show", "WEBSRV1")["status"] == "ACTIVE", 60, "ACTIVE")
    for name in servers:
        cloud.run("server", "delete", "--wait", name)
    assert "tap" not in ovs(cloud, machines[0], "ovs-vsctl", "list-ports", "br-int").stdout
    found = cloud.ferrostack("db", "check", "--json", "--state-dir", str(cloud.state)).stdout
    assert json.loads(found) == []
