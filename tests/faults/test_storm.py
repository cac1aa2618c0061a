"""kill -9 of the daemon at random points during a storm of creates and deletes: what was answered holds, and nothing is left half made.

The cloud is simulated. Its supervisor starts the daemon again each time. The seed is printed; STORM_SEED repeats a storm's choices.
"""
import json
import os
import random
import signal
import threading
import time

import pytest
import requests

import cloud as clouds

SEED = int(os.environ.get("STORM_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
STUDENTS = 4
STORM_SECONDS = 12
KILLS = 5
SETTLE_SECONDS = 60
KINDS = ("server", "port", "network")


class Session:
    """One student's connection. A call says None where the daemon died before it answered."""

    def __init__(self, cloud):
        self.http = requests.Session()
        self.http.trust_env = False
        self.rc = cloud.admin
        self.token()

    def token(self):
        rc = self.rc
        user = {"name": rc["OS_USERNAME"], "password": rc["OS_PASSWORD"], "domain": {"name": rc["OS_USER_DOMAIN_NAME"]}}
        scope = {"project": {"name": rc["OS_PROJECT_NAME"], "domain": {"name": rc["OS_PROJECT_DOMAIN_NAME"]}}}
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
        answer = clouds.wait_until(lambda: self.send("POST", rc["OS_AUTH_URL"].rstrip("/") + "/auth/tokens", body), 30, "a token")
        assert answer.status_code == 201, answer.text
        self.http.headers["X-Auth-Token"] = answer.headers["X-Subject-Token"]
        self.catalog = {
            service["type"]: next(e["url"].rstrip("/") for e in service["endpoints"] if e["interface"] == "public")
            for service in answer.json()["token"]["catalog"]
        }
        network = self.catalog["network"]
        self.base = {"compute": self.catalog["compute"], "network": network if network.endswith("/v2.0") else network + "/v2.0"}

    def send(self, method, url, body=None):
        try:
            return self.http.request(method, url, json=body, timeout=30)
        except requests.RequestException:
            return None

    def call(self, method, service, path, body=None):
        return self.send(method, self.base[service] + path, body)

    def surely(self, method, service, path):
        return clouds.wait_until(lambda: self.call(method, service, path), 30, f"an answer to {method} {path}")


class Student(threading.Thread):
    """Creates and deletes at random, and keeps what each answer promised."""

    def __init__(self, cloud, seed, number, given, stop):
        super().__init__(daemon=True)
        self.random = random.Random(f"{seed}/{number}")
        self.session = Session(cloud)
        self.number, self.given, self.stop = number, given, stop
        self.made = {kind: [] for kind in KINDS}
        self.promised = {kind: set() for kind in KINDS}
        self.removed = {kind: set() for kind in KINDS}
        self.unknown = {kind: set() for kind in KINDS}
        self.wrong, self.answers, self.cut = [], 0, 0

    def run(self):
        count = 0
        while not self.stop.is_set():
            count += 1
            kind = self.random.choices(KINDS, (5, 3, 1))[0]
            try:
                if self.made[kind] and (self.random.random() < 0.45 or len(self.made[kind]) > 8):
                    self.delete(kind, self.made[kind].pop(self.random.randrange(len(self.made[kind]))))
                else:
                    self.create(kind, f"storm-{self.number}-{count}")
            except Exception as e:  # noqa: BLE001 what a thread meets must fail the test, not the thread
                self.wrong.append(repr(e))
                return

    def path(self, kind):
        return ("compute", "/servers") if kind == "server" else ("network", f"/{kind}s")

    def create(self, kind, name):
        body = {"name": name}
        if kind == "server":
            body |= {"flavorRef": self.given["flavor"], "imageRef": self.given["image"], "networks": [{"uuid": self.given["network"]}]}
        elif kind == "port":
            body |= {"network_id": self.given["network"]}
        answer = self.session.call("POST", *self.path(kind), {kind: body})
        if answer is None:
            self.cut += 1
        elif answer.status_code in (201, 202):
            self.answers += 1
            id = answer.json()[kind]["id"]
            self.made[kind].append(id)
            self.promised[kind].add(id)
        elif answer.status_code != 503:
            self.wrong.append(f"create {kind}: {answer.status_code} {answer.text}")

    def delete(self, kind, id):
        service, path = self.path(kind)
        answer = self.session.call("DELETE", service, f"{path}/{id}")
        self.promised[kind].discard(id)
        if answer is None or answer.status_code == 503:
            # It may have been carried out or not; only a half would be wrong.
            self.cut += 1
            self.unknown[kind].add(id)
        elif answer.status_code in (202, 204):
            self.answers += 1
            self.removed[kind].add(id)
        else:
            self.wrong.append(f"delete {kind}: {answer.status_code} {answer.text}")


def status(cloud):
    return json.loads(cloud.ferrostack("status", "--json", "--state-dir", str(cloud.state), check=False).stdout)


def daemon(cloud):
    (process,) = status(cloud)["processes"]
    return process["pid"] if process["state"] == "running" else None


@pytest.fixture(scope="module")
def cloud():
    with clouds.simulated() as c:
        yield c


def given(cloud):
    session = Session(cloud)
    (flavor,) = [f["id"] for f in session.surely("GET", "compute", "/flavors").json()["flavors"] if f["name"] == "m1.tiny"]
    image = session.http.get(session.catalog["image"] + "/v2/images", timeout=30).json()["images"][0]["id"]
    network = session.call("POST", "network", "/networks", {"network": {"name": "storm"}}).json()["network"]["id"]
    subnet = {"network_id": network, "ip_version": 4, "cidr": "10.77.0.0/16", "name": "storm"}
    assert session.call("POST", "network", "/subnets", {"subnet": subnet}).status_code == 201
    project = session.call("GET", "network", "/networks/" + network).json()["network"]["project_id"]
    unlimited = {"quota": {"network": -1, "port": -1}}
    assert session.call("PUT", "network", f"/quotas/{project}", unlimited).status_code == 200
    unlimited = {"quota_set": {"instances": -1, "cores": -1, "ram": -1}}
    assert session.call("PUT", "compute", f"/os-quota-sets/{project}", unlimited).status_code == 200
    return {"flavor": flavor, "image": image, "network": network}


def test_what_was_answered_holds_after_kills_at_random_points(cloud):
    print(f"STORM_SEED={SEED}")
    chance = random.Random(SEED)
    stop = threading.Event()
    there = given(cloud)
    students = [Student(cloud, SEED, n, there, stop) for n in range(STUDENTS)]
    for s in students:
        s.start()
    end = time.monotonic() + STORM_SECONDS
    killed = set()
    try:
        for n in range(KILLS):
            # A random point of the storm is what this test is about, so time is what it waits for.
            stop.wait(max(0.0, chance.uniform(0.3, 0.9) * (end - time.monotonic()) / (KILLS - n)))
            pid = clouds.wait_until(lambda: daemon(cloud), 30, "the daemon is running")
            assert pid not in killed, "the supervisor started another process"
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
            clouds.wait_until(lambda: (p := daemon(cloud)) and p not in killed and status(cloud)["healthy"], 30, "all services answer again")
        stop.wait(max(0.0, end - time.monotonic()))
    finally:
        stop.set()
        for s in students:
            s.join(60)
    assert not any(s.is_alive() for s in students)
    wrong = [w for s in students for w in s.wrong]
    assert not wrong, wrong[:5]
    assert sum(s.answers for s in students) > 50, "a storm"

    session = Session(cloud)

    def settled():
        servers = session.surely("GET", "compute", "/servers/detail?limit=1000").json()["servers"]
        busy = [s for s in servers if s["status"] not in ("ACTIVE", "ERROR") or s["OS-EXT-STS:task_state"]]
        lost = {id for s in students for id in s.removed["server"]} & {s["id"] for s in servers}
        return None if busy or lost else servers

    try:
        servers = clouds.wait_until(settled, SETTLE_SECONDS, "every server is ACTIVE or ERROR, every deleted one gone")
    except AssertionError:
        servers = session.surely("GET", "compute", "/servers/detail?limit=1000").json()["servers"]
        removed = {id for s in students for id in s.removed["server"]}
        stuck = [
            (s["id"], s["status"], s["OS-EXT-STS:task_state"], "deleted" if s["id"] in removed else "")
            for s in servers if s["status"] not in ("ACTIVE", "ERROR") or s["OS-EXT-STS:task_state"] or s["id"] in removed
        ]
        raise AssertionError(f"not settled: {stuck}") from None
    for server in servers:
        assert server["status"] == "ACTIVE" or server.get("fault", {}).get("message"), f"{server['id']} says no reason"
    exist = {"server": {s["id"] for s in servers}}
    for kind in ("port", "network"):
        exist[kind] = {one["id"] for one in session.surely("GET", "network", f"/{kind}s?fields=id").json()[f"{kind}s"]}
    for kind in KINDS:
        promised = {id for s in students for id in s.promised[kind]}
        removed = {id for s in students for id in s.removed[kind]}
        assert promised <= exist[kind], f"{kind}s were answered and are not there: {promised - exist[kind]}"
        assert not removed & exist[kind], f"{kind}s were deleted and are there: {removed & exist[kind]}"
    found = cloud.ferrostack("db", "check", "--json", "--state-dir", str(cloud.state), check=False).stdout
    assert json.loads(found) == []

    # The cloud does as before, with what the storm left.
    for server in servers:
        assert session.surely("DELETE", "compute", f"/servers/{server['id']}").status_code in (204, 404)
    clouds.wait_until(lambda: not session.surely("GET", "compute", "/servers").json()["servers"], SETTLE_SECONDS, "all servers are gone")
    found = cloud.ferrostack("db", "check", "--json", "--state-dir", str(cloud.state), check=False).stdout
    assert json.loads(found) == []
