//! The tiny guest, built and booted under QEMU: everything that OpenStack's tests and the lab do in it.
//!
//! Needs root (for a network namespace of its own), QEMU and a package mirror; with `CI` set, missing any of them fails.
//! Nothing leaves the namespace: the guest's network is QEMU's own, with a metadata service that is a shell script.
#![allow(clippy::unwrap_used)]

use disk_image::tiny::{Options, build_tiny};
use disk_image::{config_drive, overlay};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const BOOT: Duration = Duration::from_secs(180);
const NETWORK: &str = "user,id=n0,restrict=on,net=169.254.0.0/16,host=169.254.0.2,dns=169.254.0.3,dhcpstart=169.254.0.15,\
                       hostfwd=tcp:127.0.0.1:22-:22";

/// Says why the machine cannot run this; none if it can.
fn obstacle() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("it needs root".to_owned());
    }
    let has = |program: &str| Command::new(program).arg("-V").output().is_ok();
    let programs = ["qemu-system-x86_64", "qemu-img", "apt-get", "ip", "ssh"];
    let missing: Vec<_> = programs.into_iter().filter(|program| !has(program)).collect();
    (!missing.is_empty()).then(|| format!("{} missing", missing.join(", ")))
}

/// Runs the test, with a disk for that user prepared, in a thread with a network of its own; or not at all where that
/// cannot be.
fn in_namespace(user: &str, test: fn(&Path)) {
    if let Some(obstacle) = obstacle() {
        assert!(std::env::var_os("CI").is_none(), "this test cannot run: {obstacle}");
        eprintln!("not run: {obstacle}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path(), user);
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        assert!(
            Command::new("ip")
                .args(["link", "set", "lo", "up"])
                .status()
                .unwrap()
                .success()
        );
        test(folder.path());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Makes the guest's disk and two keys, of which it will know the ECDSA one.
fn prepare(folder: &Path, user: &str) {
    // Packages are kept from one run to the next. Each user has a folder, as tests run at once.
    let mut options = Options::new(Path::new(env!("CARGO_TARGET_TMPDIR")).join("tiny").join(user));
    options.user = user.to_owned();
    let built = build_tiny(&options, &mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let disk = folder.join("disk.qcow2");
    runtime
        .block_on(overlay::create_overlay(&built, "qcow2", &disk, Some(1 << 30)))
        .unwrap();
    for kind in ["ecdsa", "ed25519"] {
        let mut command = Command::new("ssh-keygen");
        assert!(
            command
                .args(["-q", "-N", "", "-t", kind, "-f"])
                .arg(folder.join(kind))
                .status()
                .unwrap()
                .success()
        );
    }
}

struct Guest {
    qemu: Child,
    folder: PathBuf,
    user: &'static str,
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.console());
        }
    }
}

impl Guest {
    fn start(folder: &Path, user: &'static str, network: &str, more: &[String]) -> Guest {
        let path = |name: &str| folder.join(name).display().to_string();
        let qemu = Command::new("qemu-system-x86_64")
            .args([
                "-accel",
                "tcg",
                "-cpu",
                "max",
                "-m",
                "128",
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
            ])
            .args(["-device", "VGA", "-vnc", &format!("unix:{}", path("vnc"))])
            .args(["-drive", &format!("file={},if=virtio", path("disk.qcow2"))])
            .args(["-netdev", network, "-device", "virtio-net-pci,netdev=n0,romfile="])
            .args([
                "-chardev",
                &format!("file,id=c0,path={}", path("console")),
                "-serial",
                "chardev:c0",
            ])
            .args(["-qmp", &format!("unix:{},server=on,wait=off", path("qmp"))])
            .args(more)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Guest {
            qemu,
            folder: folder.to_owned(),
            user,
        }
    }

    fn console(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.join("console")).unwrap_or_default()).into_owned()
    }

    fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + BOOT;
        while !self.console().contains(text) {
            assert!(self.qemu.try_wait().unwrap().is_none(), "QEMU ended");
            assert!(Instant::now() < deadline, "'{text}' did not come within {BOOT:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn ssh(&self, key: &str) -> Command {
        // A guest that does not answer any more is a failure, not a reason to wait.
        let mut command = Command::new("timeout");
        command.args(["90", "ssh"]);
        let options = [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "ConnectTimeout=20",
        ];
        for option in options {
            command.args(["-o", option]);
        }
        command
            .args(["-F", "none", "-o", "IdentitiesOnly=yes", "-i"])
            .arg(self.folder.join(key));
        command.arg(format!("{}@127.0.0.1", self.user)).stdin(Stdio::null());
        command
    }

    /// Runs a command as Tempest does; its output must contain `wanted`.
    fn run(&self, script: &str, wanted: &str) -> String {
        let whole = format!("set -eu -o pipefail; PATH=$PATH:/sbin:/usr/sbin; {script}");
        let output = self.ssh("ecdsa").arg("-oBatchMode=yes").arg(whole).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && text.contains(wanted),
            "{script}: {}\n{text}{errors}",
            output.status
        );
        text
    }

    fn fails(&self, script: &str) {
        let output = self.ssh("ecdsa").arg("-oBatchMode=yes").arg(script).output().unwrap();
        assert!(
            !output.status.success(),
            "{script} should fail: {}",
            String::from_utf8_lossy(&output.stdout)
        );
    }

    fn qmp(&self, commands: &[&str]) {
        let mut stream = UnixStream::connect(self.folder.join("qmp")).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        lines.next().unwrap().unwrap();
        for command in ["{\"execute\":\"qmp_capabilities\"}"].iter().chain(commands) {
            writeln!(stream, "{command}").unwrap();
            let answer = lines
                .by_ref()
                .map(|l| l.unwrap())
                .find(|l| l.contains("\"return\"") || l.contains("\"error\""));
            assert!(answer.as_ref().unwrap().contains("\"return\""), "{command}: {answer:?}");
        }
    }

    /// What the power button does; QEMU must end by itself.
    fn press_power_button(mut self) {
        self.qmp(&["{\"execute\":\"system_powerdown\"}"]);
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.qemu.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "the guest does not power off");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn meta_data(folder: &Path, name: &str) -> String {
    let key = std::fs::read_to_string(folder.join("ecdsa.pub")).unwrap();
    let key = key.trim();
    format!(
        r#"{{"uuid": "d8e02d56-2648-49a3-bf97-6be8f1204f38", "public_keys": {{"mykey": "{key}\n"}}, "keys": [{{"name": "mykey", "type": "ssh", "data": "{key}\n"}}], "hostname": "{name}.example.org", "name": "{name}", "launch_index": 0, "availability_zone": "nova"}}"#
    )
}

fn executable(path: &Path, script: &str) {
    std::fs::write(path, script).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A network with a metadata service, which QEMU starts for each connection.
fn metadata_service(folder: &Path, name: &str, user_data: &str) -> String {
    std::fs::write(folder.join("meta_data.json"), meta_data(folder, name)).unwrap();
    std::fs::write(folder.join("user_data"), user_data).unwrap();
    let path = folder.join("metadata.sh");
    let script = r#"#!/bin/sh
read -r method path version
while read -r line && [ "${#line}" -gt 1 ]; do :; done
file=$(dirname "$0")/${path##*/}
if [ -f "$file" ]; then
	printf 'HTTP/1.0 200 OK\r\nContent-Length: %s\r\n\r\n' "$(wc -c < "$file")"
	cat "$file"
else
	printf 'HTTP/1.0 404 Not Found\r\n\r\n'
fi
"#;
    executable(&path, script);
    format!("{NETWORK},guestfwd=tcp:169.254.169.254:80-cmd:{}", path.display())
}

#[test]
fn does_what_tempest_asks_of_it() {
    in_namespace("cirros", |folder| {
        let network = metadata_service(
            folder,
            "web-1",
            "#!/bin/sh\necho \"ran as $(id -un)\" > /var/lib/tiny/mark\n",
        );
        let mut guest = Guest::start(folder, "cirros", &network, &[]);
        guest.wait_for("login:");
        guest.wait_for("ready: web-1");
        assert!(guest.console().contains("metadata: http://169.254.169.254"));

        // Who and where.
        guest.run("id -un", "cirros");
        guest.run("sudo -n id -u", "0");
        guest.run("hostname", "web-1");
        guest.run("sudo cat /var/lib/tiny/mark", "ran as root");
        guest.run(
            "[ $(df -m / | awk 'NR == 2 { print $2 }') -gt 900 ] && echo grown",
            "grown",
        );
        guest.run("grep MemTotal /proc/meminfo; cat /proc/uptime", "MemTotal");

        // Network.
        guest.run("ip addr; ip -o link; ip -br link; ip route", "eth0");
        guest.run(
            "ip -6 -br address show scope link up | head -1 | cut -d ' ' -f1",
            "eth0",
        );
        guest.run("ip -6 addr show dev eth0", "5054:ff:fe12:3456");
        guest.run(
            "sudo kill -USR1 $(cat /var/run/udhcpc.eth0.pid); sudo cat /proc/$(cat /var/run/udhcpc.eth0.pid)/comm",
            "udhcpc",
        );
        guest.run("ping -c1 -w5 -s 56 169.254.0.2", " 0% packet loss");
        guest.run("ping6 -c1 -w5 -s 56 -I lo ::1", " 0% packet loss");
        guest.run(
            "sudo ip link add link eth0 name eth0.7 type vlan id 7; ip -br link; sudo ip link del eth0.7",
            "eth0.7@eth0",
        );
        guest.run(
            "curl -s http://169.254.169.254/openstack/latest/meta_data.json",
            "web-1",
        );
        guest.run(
            "nc -p 8080 -lk -e echo foolish < /dev/zero >/dev/null 2>&1 &\nsleep 1\necho bar | nc -w 1 127.0.0.1 8080",
            "foolish",
        );
        guest.run("echo again | nc -w 1 127.0.0.1 8080", "foolish");
        guest.run("nc -u -p 8081 -lk -e echo foolish < /dev/zero >/dev/null 2>&1 &\nsleep 1\necho bar | nc -w 1 -u 127.0.0.1 8081", "foolish");
        guest.fails("echo bar | nc -w 1 127.0.0.1 8085");
        guest.run("pidof nc; sudo killall nc; sleep 1; pidof nc || echo gone", "gone");
        // DHCP options that QEMU's server does not have: the script that udhcpc calls.
        guest.run("sudo ip link add t0 type dummy; sudo env interface=t0 /etc/udhcpc.script deconfig; sudo env interface=t0 ip=10.9.0.5 mask=24 mtu=1442 dns=10.9.0.3 router=10.9.0.9 staticroutes='10.20.0.0/16 10.9.0.2 0.0.0.0/0 10.9.0.1' /etc/udhcpc.script bound; ip route", "10.20.0.0/16 via 10.9.0.2");
        let routes = guest.run(
            "cat /sys/class/net/t0/mtu /etc/resolv.conf; ip route show dev t0; sudo ip link del t0",
            "default via 10.9.0.1",
        );
        assert!(
            routes.contains("1442") && routes.contains("nameserver 10.9.0.3") && !routes.contains("10.9.0.9"),
            "{routes}"
        );

        // Disks and programs.
        guest.run("lsblk -lb --nodeps", "vda");
        guest.run(
            "lsblk --nodeps --noheadings --output NAME; sudo lsblk --fs --ascii",
            "vda",
        );
        guest.run("sudo blkid -L tiny", "/dev/vda1");
        guest.run("dd if=/dev/zero of=/tmp/x bs=1M count=8 2>/dev/null; sudo mkfs.ext4 -q /tmp/x; sudo mount -o loop /tmp/x /mnt; sudo umount /mnt; echo fine", "fine");
        guest.run("sudo mkfs.vfat /tmp/x >/dev/null 2>&1; sudo mount -o loop /tmp/x /mnt; sudo umount /mnt; rm /tmp/x; echo fine", "fine");
        guest.run("sudo sysctl -n net.ipv4.ip_forward", "0");
        guest.run(
            "ps -ax; f=$(mktemp); echo a | tee $f | cut -c1; timeout 1 tail -f $f || sync",
            "dropbear",
        );
        guest.run(
            "screen -d -m sh -c 'cp /proc/self/status /dev/shm/status'; sleep 1; grep Name /dev/shm/status",
            "cp",
        );
        guest.run(
            "cp /usr/bin/busybox /dev/shm/busybox; /dev/shm/busybox echo executable",
            "executable",
        );
        guest.run(
            "echo root:secret | sudo chpasswd; echo secret | su root -c 'id -u' 2>/dev/null",
            "0",
        );
        guest.fails("echo wrong | su root -c id");
        let mut scp = Command::new("timeout");
        scp.args([
            "90",
            "scp",
            "-O",
            "-q",
            "-F",
            "none",
            "-oStrictHostKeyChecking=no",
            "-oUserKnownHostsFile=/dev/null",
            "-i",
        ]);
        scp.arg(folder.join("ecdsa"))
            .arg(folder.join("ecdsa.pub"))
            .arg("cirros@127.0.0.1:/dev/shm/copy");
        assert!(scp.status().unwrap().success());
        guest.run("cat /dev/shm/copy", "ecdsa-sha2-nistp256");

        // The web server of the lab.
        guest.run(
            "echo edited | sudo tee /var/www/index.html; sudo httpd -h /var/www; curl -s http://127.0.0.1/",
            "edited",
        );

        // Plugging while it runs.
        let disk = folder.join("second.raw");
        std::fs::File::create(&disk).unwrap().set_len(32 << 20).unwrap();
        let add_node = format!(
            r#"{{"execute":"blockdev-add","arguments":{{"driver":"file","node-name":"d1","filename":"{}"}}}}"#,
            disk.display()
        );
        guest.qmp(&[
            &add_node,
            r#"{"execute":"device_add","arguments":{"driver":"virtio-blk-pci","id":"disk1","drive":"d1","serial":"9d2b8a2e-0b1f-4f5e-9"}}"#,
            r#"{"execute":"netdev_add","arguments":{"type":"user","id":"n1","restrict":true}}"#,
            r#"{"execute":"device_add","arguments":{"driver":"virtio-net-pci","id":"nic1","netdev":"n1","mac":"52:54:00:00:00:99"}}"#,
        ]);
        guest.run("for i in 1 2 3 4 5 6 7 8 9 10; do [ -d /sys/class/net/eth1 ] && [ -b /dev/vdb ] && break; sleep 1; done; cat /sys/block/vdb/serial; ip link show eth1", "9d2b8a2e-0b1f-4f5e-9");
        guest.run(
            "sudo ip addr add 10.1.1.5/24 dev eth1; sudo ip link set eth1 up; ip -o addr show dev eth1",
            "10.1.1.5/24",
        );
        guest.run(
            "sudo mkfs.ext4 -q /dev/vdb; sudo mount /dev/vdb /mnt; echo kept | sudo tee /mnt/f; sudo umount /mnt; sync",
            "kept",
        );
        guest.press_power_button();
    });
}

#[test]
fn reads_a_config_drive() {
    in_namespace("ubuntu", |folder| {
        let drive = folder.join("disk.config");
        let files = BTreeMap::from([
            (
                "openstack/latest/meta_data.json".to_owned(),
                meta_data(folder, "drive-1").into_bytes(),
            ),
            (
                "openstack/latest/user_data".to_owned(),
                b"#!/bin/sh\necho drive > /root/mark\n".to_vec(),
            ),
        ]);
        config_drive::write(&files, &drive).unwrap();
        let more = [
            "-drive".to_owned(),
            format!("file={},if=virtio,format=raw,readonly=on", drive.display()),
        ];
        let mut guest = Guest::start(folder, "ubuntu", NETWORK, &more);
        guest.wait_for("ready: drive-1");
        assert!(guest.console().contains("metadata: config drive"));
        guest.run("id -un; sudo cat /root/mark; hostname", "drive");

        // Only the key's owner gets in, or who knows the password.
        let stranger = guest.ssh("ed25519").args(["-oBatchMode=yes", "true"]).status().unwrap();
        assert!(!stranger.success());
        let ask = folder.join("ask");
        executable(&ask, "#!/bin/sh\necho gocubsgo\n");
        let by_password = guest
            .ssh("ed25519")
            .args(["-oPreferredAuthentications=password", "echo let in"])
            .env("SSH_ASKPASS", &ask)
            .env("SSH_ASKPASS_REQUIRE", "force")
            .output()
            .unwrap();
        assert!(
            String::from_utf8_lossy(&by_password.stdout).contains("let in"),
            "{by_password:?}"
        );
        guest.press_power_button();
    });
}
