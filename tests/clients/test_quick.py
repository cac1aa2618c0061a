"""The whole cloud, simulated, as its users meet it: the `openstack` client's commands of the lab, and the SDK."""
import stat

import pytest

from cloud import wait_until


def test_credentials_are_their_owners_alone(cloud):
    for name in ("keystonerc_admin", "keystonerc_demo", "clouds.yaml"):
        assert stat.S_IMODE((cloud.state / name).stat().st_mode) == 0o600, name
    assert r"[\u@\h \W(keystone_admin)]\$ " in (cloud.state / "keystonerc_admin").read_text()


def test_up_again_changes_nothing_and_says_so(cloud):
    before = (cloud.state / "keystonerc_admin").read_text()
    said = cloud.up().stdout
    assert "already" in said
    assert (cloud.state / "keystonerc_admin").read_text() == before


def test_users_get_their_role_through_a_group(cloud):
    cloud.openstack("group", "create", "dev")
    for user in ("devuser1", "devuser2"):
        cloud.openstack("user", "create", "--project", "demo", "--password", "s3cret", user)
    cloud.run("group", "add", "user", "dev", "devuser1", "devuser2")
    me = {"OS_USERNAME": "devuser1", "OS_PASSWORD": "s3cret", "OS_PROJECT_NAME": "demo"}
    refused = cloud.run("token", "issue", check=False, **me)
    assert refused.returncode != 0 and "401" in refused.stderr
    cloud.run("role", "add", "--group", "dev", "--project", "demo", "member")
    assert cloud.openstack("token", "issue", **me)["project_id"] == cloud.openstack("project", "show", "demo")["id"]
    refused = cloud.run("user", "list", check=False, **me)
    assert "You are not authorized to perform the requested action: identity:list_users." in refused.stderr
    assert "403" in refused.stderr


def test_the_lab_s_networks_flavors_and_servers(cloud, connection, tmp_path):
    cloud.run("network", "create", "--provider-physical-network", "extnet2", "--provider-network-type", "flat", "--external", "ext_net")
    subnet = cloud.openstack(
        "subnet", "create", "ext_net_subnet", "--network", "ext_net", "--subnet-range", "10.5.117.0/8",
        "--allocation-pool", "start=10.5.117.101,end=10.5.117.199", "--gateway", "10.0.0.1", "--dns-nameserver", "8.8.8.8", "--no-dhcp",
    )
    assert subnet["cidr"] == "10.0.0.0/8" and subnet["enable_dhcp"] is False
    cloud.run("network", "set", "--external", "ext_net")

    net = connection.network.create_network(name="tenant")
    assert net.provider_network_type == "vxlan" and net.mtu == 1450
    inner = connection.network.create_subnet(network_id=net.id, name="tenant", cidr="172.16.1.0/24", ip_version=4)
    assert inner.gateway_ip == "172.16.1.1"
    cloud.run("router", "create", "ADMIN_R1")
    cloud.run("router", "set", "--external-gateway", "ext_net", "ADMIN_R1")
    cloud.run("router", "add", "subnet", "ADMIN_R1", "tenant")

    cloud.run("flavor", "create", "--id", "6", "--vcpus", "1", "--ram", "1024", "--disk", "10", "m1.xsmall")
    flavors = {f.id: (f.name, f.ram, f.disk, f.vcpus) for f in connection.compute.flavors()}
    assert flavors == {
        "1": ("m1.tiny", 512, 1, 1), "2": ("m1.small", 2048, 20, 1), "3": ("m1.medium", 4096, 40, 2),
        "4": ("m1.large", 8192, 80, 4), "5": ("m1.xlarge", 16384, 160, 8), "6": ("m1.xsmall", 1024, 10, 1),
    }

    data = tmp_path / "image.raw"
    data.write_bytes(bytes(1 << 20))
    cloud.run("image", "create", "--disk-format", "raw", "--container-format", "bare", "--file", str(data), "UBUNTU1804")
    key = cloud.run("keypair", "create", "ubuntu1804").stdout
    assert "PRIVATE KEY" in key
    cloud.run("security", "group", "create", "WEBSRV_SG")
    for rule in (["--protocol", "icmp"], ["--protocol", "tcp", "--dst-port", "22"], ["--protocol", "tcp", "--dst-port", "80"]):
        cloud.run("security", "group", "rule", "create", *rule, "WEBSRV_SG")
    servers = {}
    for name in ("WEBSRV1", "WEBSRV2"):
        servers[name] = cloud.openstack(
            "server", "create", "--flavor", "m1.small", "--image", "UBUNTU1804", "--security-group", "WEBSRV_SG",
            "--key-name", "ubuntu1804", "--nic", f"net-id={net.id}", "--wait", name,
        )
    assert {s["status"] for s in servers.values()} == {"ACTIVE"}
    server = connection.compute.get_server(servers["WEBSRV2"]["id"])
    (nic,) = server.addresses["tenant"]
    assert nic["addr"].startswith("172.16.1.") and nic["OS-EXT-IPS:type"] == "fixed"

    floating = cloud.openstack("floating", "ip", "create", "ext_net")["floating_ip_address"]
    assert floating.startswith("10.5.117.")
    cloud.run("server", "add", "floating", "ip", "WEBSRV2", floating)
    addresses = connection.compute.get_server(server.id).addresses["tenant"]
    assert [a["addr"] for a in addresses if a["OS-EXT-IPS:type"] == "floating"] == [floating]
    cloud.run("server", "remove", "floating", "ip", "WEBSRV2", floating)
    assert len(connection.compute.get_server(server.id).addresses["tenant"]) == 1

    assert cloud.run("console", "log", "show", "WEBSRV2").stdout.strip()
    assert cloud.openstack("console", "url", "show", "WEBSRV2")["url"].startswith("http")
    for name, there in servers.items():
        cloud.run("server", "delete", "--wait", name)
        assert connection.compute.find_server(there["id"]) is None
    assert list(connection.network.ports(network_id=net.id, device_owner="compute:nova")) == []


def test_a_stranger_sees_nothing_of_others(cloud, connection):
    import openstack
    from openstack import exceptions

    project = connection.identity.create_project(name="strangers")
    user = connection.identity.create_user(name="stranger", password="s3cret", default_project_id=project.id)
    role = connection.identity.find_role("member")
    connection.identity.assign_project_role_to_user(project, user, role)
    e = cloud.admin
    stranger = openstack.connect(
        auth_url=e["OS_AUTH_URL"], username="stranger", password="s3cret", project_name="strangers", user_domain_name="Default",
        project_domain_name="Default", region_name=e["OS_REGION_NAME"],
    )
    mine = connection.network.create_network(name="mine")
    for there in (
        lambda: stranger.network.get_network(mine.id),
        lambda: stranger.network.delete_network(mine.id, ignore_missing=False),
        lambda: stranger.network.update_network(mine.id, name="yours"),
    ):
        with pytest.raises(exceptions.NotFoundException):
            there()
    with pytest.raises(exceptions.ForbiddenException):
        stranger.compute.create_flavor(name="x", ram=1, vcpus=1, disk=1)
    assert connection.network.get_network(mine.id).name == "mine"


def test_nothing_is_oversold_by_a_hundred_creates_at_once(connection):
    from concurrent.futures import ThreadPoolExecutor

    image = next(connection.image.images(name="tiny"), None) or next(connection.image.images())
    project = connection.current_project_id
    connection.compute.update_quota_set(project, instances=-1, cores=-1, ram=-1)
    net = connection.network.create_network(name="crowd")
    connection.network.create_subnet(network_id=net.id, cidr="10.77.0.0/24", ip_version=4)

    def make(i):
        return connection.compute.create_server(name=f"crowd-{i}", image_id=image.id, flavor_id="1", networks=[{"uuid": net.id}]).id

    with ThreadPoolExecutor(16) as pool:
        ids = list(pool.map(make, range(100)))
    assert len(set(ids)) == 100
    done = wait_until(
        lambda: [s for s in connection.compute.servers(name="crowd-") if s.status == "ACTIVE"].__len__() == 100, 60, "100 servers ACTIVE"
    )
    assert done
    seen = [a["addr"] for s in connection.compute.servers(name="crowd-") for a in s.addresses["crowd"]]
    assert len(seen) == len(set(seen)) == 100
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda i: connection.compute.delete_server(i), ids))
    wait_until(lambda: not list(connection.compute.servers(name="crowd-")), 60, "all servers gone")
    assert list(connection.network.ports(network_id=net.id, device_owner="compute:nova")) == []
