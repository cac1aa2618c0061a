//! A guest's command line, as a pure function of what it is made of. Paths are relative to the guest's folder, in which QEMU is
//! started: nothing then depends on how long the path of the state folder is (a Unix socket's may have 107 bytes).

use serde_json::json;

use super::SpawnSettings;
use crate::{DiskBus, GuestSpec, Nic};

/// Files in the guest's folder that QEMU makes.
pub const QMP_SOCKET: &str = "run/qmp.sock";
/// The serial port's socket.
pub const SERIAL_SOCKET: &str = "run/serial.sock";
/// The VNC server's socket, for noVNC.
pub const VNC_SOCKET: &str = "run/vnc.sock";
/// The serial port's log.
pub const CONSOLE_LOG: &str = "run/console.log";
/// QEMU holds a lock on it, so that a second one for the same guest ends at once.
pub const PID_FILE: &str = "run/qemu.pid";
/// What QEMU says on its standard error.
pub const STDERR: &str = "run/qemu.log";

/// Hot-plug slots of a `q35` guest beyond those in use; `pc` has a bus with slots enough.
const SPARE_PCIE_PORTS: usize = 8;

/// How a port's tap and its device are joined.
///
/// Where the switch takes unfinished checksums the device is at the tap itself. Where not there is a hub between the two: a device keeps its
/// back end for life, but a hub's port can be exchanged, so a tap that somebody has deleted is made good without the guest's noticing.
pub struct Wiring {
    /// The tap's back end.
    pub tap: String,
    /// The hub's ports towards the tap and towards the device.
    pub hub: Option<(String, String)>,
    /// Number of the hub, unique within the guest.
    pub hub_id: u32,
}

impl Wiring {
    /// Of a port.
    pub fn of(port_id: uuid::Uuid, offload: bool) -> Self {
        Self {
            tap: format!("net-{port_id}"),
            hub: (!offload).then(|| (format!("hub-tap-{port_id}"), format!("hub-nic-{port_id}"))),
            hub_id: port_id.as_fields().0 & 0x7fff_ffff,
        }
    }

    /// What the device is at.
    pub fn device_end(&self) -> &str {
        self.hub.as_ref().map_or(&self.tap, |hub| &hub.1)
    }
}

/// QEMU's id of a port's device.
pub fn nic_id(port_id: uuid::Uuid) -> String {
    format!("nic-{port_id}")
}

/// The port of a device with this id.
pub fn port_of(device: &str) -> Option<uuid::Uuid> {
    uuid::Uuid::parse_str(device.strip_prefix("nic-")?).ok()
}

/// The properties of a NIC's device, for `-device` and `device_add` alike.
pub fn nic_device(nic: &Nic, bus: Option<String>) -> serde_json::Value {
    let mut device = json!({
        "driver": nic.model,
        "netdev": Wiring::of(nic.port_id, nic.offload).device_end(),
        "id": nic_id(nic.port_id),
        "mac": nic.mac,
        // No boot ROM: guests boot from disks, and each ROM costs time and memory.
        "romfile": "",
    });
    if nic.model.starts_with("virtio") {
        device["host_mtu"] = json!(nic.mtu);
    }
    if let Some(bus) = bus {
        device["bus"] = json!(bus);
    }
    device
}

/// The arguments. `tap_fds` are the open taps of the guest's NICs, in order.
pub fn arguments(spec: &GuestSpec, settings: &SpawnSettings, tap_fds: &[i32]) -> Vec<String> {
    let mut args: Vec<String> = Vec::new();
    let mut add = |name: &str, value: String| {
        args.push(format!("-{name}"));
        args.push(value);
    };
    let machine = spec.machine.as_deref().unwrap_or(&settings.machine);
    let q35 = machine.contains("q35");
    let id = spec.id;

    add("name", format!("guest={id}"));
    add("uuid", id.to_string());
    add("machine", format!("{machine},usb=off"));
    if settings.kvm {
        add("accel", "kvm".into());
        add("cpu", "host".into());
    } else {
        // The translated code of a small guest fits a small cache: 100 MB of memory less per guest, for no time.
        let cache = if spec.memory_mib <= 256 {
            32
        } else if spec.memory_mib <= 1024 {
            64
        } else {
            128
        };
        add("accel", format!("tcg,thread=multi,tb-size={cache}"));
        add("cpu", "max".into());
    }
    let (sockets, cores, threads) = spec.topology.unwrap_or((spec.vcpus, 1, 1));
    add(
        "smp",
        format!("{},sockets={sockets},cores={cores},threads={threads}", spec.vcpus),
    );
    add("m", format!("size={}M", spec.memory_mib));
    add("rtc", "base=utc,driftfix=slew".into());
    add("boot", "strict=on".into());
    add("pidfile", PID_FILE.into());
    add("qmp", format!("unix:{QMP_SOCKET},server=on,wait=off"));
    if settings.sandbox {
        add(
            "sandbox",
            "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny".into(),
        );
    }
    let version = env!("CARGO_PKG_VERSION");
    // cloud-init knows an OpenStack guest by these two names.
    add(
        "smbios",
        format!(
            "type=1,manufacturer=OpenStack Foundation,product=OpenStack Nova,version={version},serial={id},uuid={id},\
             family=Virtual Machine"
        ),
    );

    let mut slots = spec.nics.len() + spec.disks.len() + 4 + SPARE_PCIE_PORTS;
    if q35 {
        for n in 0..slots {
            add(
                "device",
                format!("pcie-root-port,id=pcie{n},chassis={},slot={n}", n + 1),
            );
        }
    }
    slots = 0;
    let mut bus = |property: &mut serde_json::Value| {
        if q35 {
            property["bus"] = json!(format!("pcie{slots}"));
            slots += 1;
        }
    };

    if spec.disks.iter().any(|disk| disk.bus == DiskBus::Scsi) {
        let mut controller = json!({"driver": "virtio-scsi-pci", "id": "scsi0"});
        bus(&mut controller);
        add("device", controller.to_string());
    }
    for (n, disk) in spec.disks.iter().enumerate() {
        let file = |node: String, name: &str, read_only: bool| {
            json!({
                "driver": "file",
                "node-name": node,
                "filename": name,
                "read-only": read_only,
                "auto-read-only": false,
                "discard": "unmap",
            })
        };
        let mut format = json!({
            "driver": disk.format,
            "node-name": format!("disk{n}"),
            "file": format!("file{n}"),
            "read-only": disk.read_only,
            "discard": "unmap",
        });
        if let Some(backing) = &disk.backing {
            let mut base = json!({
                "driver": backing.format,
                "node-name": format!("base{n}"),
                "file": format!("basefile{n}"),
                "read-only": true,
            });
            add(
                "blockdev",
                file(format!("basefile{n}"), &backing.file, true).to_string(),
            );
            if backing.format == "qcow2" {
                // Images with backing files are refused when they are fetched; QEMU is not to look for one either.
                base["backing"] = serde_json::Value::Null;
            }
            add("blockdev", base.to_string());
            format["backing"] = json!(format!("base{n}"));
        }
        add(
            "blockdev",
            file(format!("file{n}"), &disk.file, disk.read_only).to_string(),
        );
        add("blockdev", format.to_string());
        let mut device = json!({"drive": format!("disk{n}"), "id": format!("disk-{n}")});
        match disk.bus {
            DiskBus::Virtio => {
                device["driver"] = json!("virtio-blk-pci");
                bus(&mut device);
            }
            DiskBus::Scsi => {
                device["driver"] = json!(if disk.read_only { "scsi-cd" } else { "scsi-hd" });
                device["bus"] = json!("scsi0.0");
            }
            DiskBus::Ide => device["driver"] = json!(if disk.read_only { "ide-cd" } else { "ide-hd" }),
        }
        if n == 0 {
            device["bootindex"] = json!(1);
        }
        add("device", device.to_string());
    }
    for (nic, fd) in spec.nics.iter().zip(tap_fds) {
        let wiring = Wiring::of(nic.port_id, nic.offload);
        add("netdev", format!("tap,id={},fd={fd}", wiring.tap));
        if let Some((tap_end, device_end)) = &wiring.hub {
            add(
                "netdev",
                format!("hubport,id={tap_end},hubid={},netdev={}", wiring.hub_id, wiring.tap),
            );
            add("netdev", format!("hubport,id={device_end},hubid={}", wiring.hub_id));
        }
        let mut device = nic_device(nic, None);
        bus(&mut device);
        add("device", device.to_string());
    }

    add(
        "chardev",
        format!("socket,id=serial0,path={SERIAL_SOCKET},server=on,wait=off,logfile={CONSOLE_LOG},logappend=on"),
    );
    add("serial", "chardev:serial0".into());
    let video = spec.video.as_deref().unwrap_or("std");
    add("vga", video.into());
    if video != "none" {
        if let Some((host, port)) = &settings.vnc {
            let host = if host.contains(':') {
                format!("[{host}]")
            } else {
                host.clone()
            };
            add("vnc", format!("{host}:{}", port.saturating_sub(5900)));
        }
        add("vnc", format!("unix:{VNC_SOCKET}"));
    }
    add("object", "rng-random,id=rng0,filename=/dev/urandom".into());
    for (driver, extra) in [("virtio-rng-pci", Some(("rng", "rng0"))), ("virtio-balloon-pci", None)] {
        let mut device = json!({"driver": driver, "id": driver});
        if let Some((key, value)) = extra {
            device[key] = json!(value);
        }
        bus(&mut device);
        add("device", device.to_string());
    }
    args.extend(["-nodefaults", "-no-user-config", "-msg", "timestamp=on"].map(String::from));
    args
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Disk;
    use uuid::Uuid;

    fn spec() -> GuestSpec {
        GuestSpec {
            id: Uuid::from_u128(7),
            vcpus: 2,
            memory_mib: 512,
            disks: vec![Disk {
                file: "disk".into(),
                format: "qcow2".into(),
                bus: DiskBus::Virtio,
                read_only: false,
                backing: Some(crate::Backing {
                    file: "base".into(),
                    format: "qcow2".into(),
                }),
            }],
            nics: vec![Nic {
                port_id: Uuid::from_u128(9),
                tap: "tap0".into(),
                mac: "fa:16:3e:00:00:01".into(),
                mtu: 1450,
                model: "virtio-net-pci".into(),
                offload: false,
            }],
            machine: None,
            video: None,
            topology: None,
        }
    }

    fn settings() -> SpawnSettings {
        SpawnSettings {
            kvm: false,
            machine: "pc".into(),
            sandbox: true,
            vnc: Some(("127.0.0.1".into(), 5907)),
        }
    }

    fn has(args: &[String], name: &str, part: &str) -> bool {
        args.windows(2).any(|pair| pair[0] == name && pair[1].contains(part))
    }

    #[test]
    fn a_guest_is_an_openstack_guest_with_its_own_uuid() {
        let args = arguments(&spec(), &settings(), &[11]);
        assert!(has(
            &args,
            "-smbios",
            "manufacturer=OpenStack Foundation,product=OpenStack Nova"
        ));
        assert!(has(&args, "-smbios", "uuid=00000000-0000-0000-0000-000000000007"));
        assert!(has(&args, "-blockdev", "\"backing\":\"base0\""));
        assert!(has(&args, "-vnc", "127.0.0.1:7"));
        assert!(has(&args, "-netdev", ",fd=11"));
        assert!(has(&args, "-netdev", "hubport,id=hub-nic-"));
        let direct = GuestSpec {
            nics: vec![Nic {
                offload: true,
                ..spec().nics.remove(0)
            }],
            ..spec()
        };
        let direct = arguments(&direct, &settings(), &[11]);
        assert!(!has(&direct, "-netdev", "hubport") && has(&direct, "-device", "\"netdev\":\"net-"));
        assert!(has(&args, "-device", "fa:16:3e:00:00:01"));
        assert!(has(&args, "-accel", "tcg,thread=multi"));
        assert!(has(&args, "-sandbox", "spawn=deny"));
        assert!(!args.iter().any(|a| a.contains("pcie-root-port")));
    }

    #[test]
    fn q35_has_ports_to_plug_into() {
        let args = arguments(
            &GuestSpec {
                machine: Some("q35".into()),
                ..spec()
            },
            &settings(),
            &[11],
        );
        let ports = args.iter().filter(|a| a.starts_with("pcie-root-port")).count();
        let used = args.iter().filter(|a| a.contains("\"bus\":\"pcie")).count();
        assert!(ports >= used + SPARE_PCIE_PORTS, "{ports} ports, {used} used");
    }

    #[test]
    fn a_device_id_leads_back_to_its_port() {
        let id = Uuid::from_u128(9);
        assert_eq!(port_of(&nic_id(id)), Some(id));
        assert_eq!(port_of("disk-0"), None);
        assert_eq!(port_of("nic-x"), None);
    }
}
