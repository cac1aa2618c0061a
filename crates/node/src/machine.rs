//! What the node's machine is, for its hello and its heartbeats.

use std::fs;

use node_protocol::reports::CpuInfo;

/// The machine's memory in MiB: all, and what is in use.
pub fn memory_mib() -> (u64, u64) {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let number = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
            .unwrap_or(0)
            / 1024
    };
    let total = number("MemTotal");
    (total, total.saturating_sub(number("MemAvailable")))
}

/// Load of the last minute.
pub fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace()
        .next()
        .and_then(|load| load.parse().ok())
        .unwrap_or(0.0)
}

/// How many CPUs this process may use.
pub fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| n.get() as u32)
}

/// The CPU, from the kernel's description of the first one.
pub fn cpu_info() -> CpuInfo {
    parse_cpu(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default())
}

fn parse_cpu(text: &str) -> CpuInfo {
    let all = |name: &str| {
        let name = name.to_owned();
        text.lines().filter_map(move |line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim().to_owned())
        })
    };
    let first = |name: &str| all(name).next().unwrap_or_default();
    let mut sockets: Vec<String> = all("physical id").collect();
    sockets.sort_unstable();
    sockets.dedup();
    let sockets = sockets.len().max(1) as u32;
    let logical = all("processor").count().max(1) as u32;
    let cores = first("cpu cores").parse().unwrap_or(logical / sockets).max(1);
    CpuInfo {
        arch: std::env::consts::ARCH.into(),
        model: first("model name"),
        vendor: first("vendor_id"),
        features: first("flags").split_whitespace().map(str::to_owned).collect(),
        sockets,
        cores,
        threads: (logical / sockets / cores).max(1),
    }
}

/// The id of this boot of the machine.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// The machine's host name.
pub fn hostname() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() {
        "localhost".into()
    } else {
        name.trim().to_owned()
    }
}

/// All addresses of the machine but those of the loopback.
pub fn addresses() -> Vec<String> {
    let mut found = Vec::new();
    for interface in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let Some(address) = interface.address else { continue };
        let ip = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
            (Some(v4), _) => std::net::IpAddr::V4(v4.ip()),
            (_, Some(v6)) => std::net::IpAddr::V6(v6.ip()),
            _ => continue,
        };
        if !ip.is_loopback() && !found.contains(&ip.to_string()) {
            found.push(ip.to_string());
        }
    }
    found
}

/// What `uptime` prints.
pub fn uptime() -> String {
    let up = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = up
        .split('.')
        .next()
        .and_then(|s| s.trim().parse::<u64>().ok())
        .unwrap_or(0);
    let loads = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let loads: Vec<&str> = loads.split_whitespace().take(3).collect();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
        % 86_400;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let up = match days {
        0 => format!("{hours}:{minutes:02}"),
        1 => format!("1 day, {hours}:{minutes:02}"),
        days => format!("{days} days, {hours}:{minutes:02}"),
    };
    let (h, m, s) = (now / 3600, now / 60 % 60, now % 60);
    format!(
        " {h:02}:{m:02}:{s:02} up {up},  0 users,  load average: {}",
        loads.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_read_as_the_kernel_tells_it() {
        let core = |n: u32, socket: u32| {
            format!(
                "processor\t: {n}\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD X\nphysical id\t: {socket}\ncpu cores\t: 2\nflags\t\t: fpu sse svm\n\n"
            )
        };
        let text: String = (0..8).map(|n| core(n, n / 4)).collect();
        let cpu = parse_cpu(&text);
        assert_eq!((cpu.sockets, cpu.cores, cpu.threads), (2, 2, 2));
        assert_eq!((cpu.vendor.as_str(), cpu.features.len()), ("AuthenticAMD", 3));
        assert_eq!(parse_cpu("").cores, 1);
    }

    #[test]
    fn this_machine_says_what_it_is() {
        assert!(memory_mib().0 > 0 && cpus() > 0 && !boot_id().is_empty());
        assert!(uptime().contains("load average: "));
    }
}
