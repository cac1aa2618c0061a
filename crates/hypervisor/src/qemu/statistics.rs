//! Counters of a running guest.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use node_protocol::queries::{Diagnostics, DiskDiagnostics, NicDiagnostics};
use serde_json::Value;

use super::monitor::Monitor;
use super::record::Record;
use crate::{DiskBus, PowerState, Result};

impl Monitor {
    /// Collects them from QEMU, from the kernel's account of its process, and from the taps.
    pub async fn diagnostics(&self, record: Option<&Record>) -> Result<Diagnostics> {
        let state = match self.power_state().await? {
            PowerState::Running => "running",
            PowerState::Paused => "paused",
            PowerState::Crashed => "crashed",
            PowerState::Shutdown => "shutdown",
            PowerState::Suspended => "suspended",
            PowerState::NoState => "pending",
        };
        let cpus = self.qmp.execute("query-cpus-fast", Value::Null).await?;
        let threads: Vec<u64> = cpus
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|cpu| cpu["thread-id"].as_u64())
            .collect();
        let blocks = self.qmp.execute("query-blockstats", Value::Null).await?;
        let mut diagnostics = Diagnostics {
            state: state.into(),
            cpu_times: threads
                .iter()
                .filter_map(|thread| cpu_time(self.pid(), *thread))
                .collect(),
            num_cpus: threads.len() as u32,
            memory_used: resident_mib(self.pid()),
            ..Diagnostics::default()
        };
        let Some(record) = record else { return Ok(diagnostics) };
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_secs() as i64);
        diagnostics.uptime = record.started_at.and_then(|at| u64::try_from(now - at).ok());
        diagnostics.memory_maximum = record.spec.memory_mib;
        diagnostics.config_drive = record.spec.disks.iter().any(|disk| disk.read_only);
        let devices = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
        diagnostics.nics = record
            .spec
            .nics
            .iter()
            .map(|nic| nic_counters(&devices, &nic.tap, &nic.mac))
            .collect();
        let mut letters = ('a'..='z').cycle();
        for (n, disk) in record.spec.disks.iter().enumerate() {
            let prefix = if disk.bus == DiskBus::Virtio { "vd" } else { "sd" };
            let name = format!("{prefix}{}", letters.next().unwrap_or('a'));
            let device = blocks.as_array().into_iter().flatten().find(|block| {
                let path = block["qdev"].as_str().unwrap_or_default();
                path.split('/').any(|part| part == format!("disk-{n}"))
            });
            diagnostics
                .disks
                .push(disk_counters(name, device.map(|device| &device["stats"])));
        }
        Ok(diagnostics)
    }
}

fn disk_counters(name: String, stats: Option<&Value>) -> DiskDiagnostics {
    let number = |key: &str| stats.and_then(|stats| stats[key].as_u64()).unwrap_or(0);
    DiskDiagnostics {
        name,
        read_bytes: number("rd_bytes"),
        read_requests: number("rd_operations"),
        write_bytes: number("wr_bytes"),
        write_requests: number("wr_operations"),
        errors_count: number("failed_rd_operations") + number("failed_wr_operations"),
    }
}

/// The tap's counters, turned round: what the tap sends the guest receives. They are read where the network namespace is the
/// process's own, which `/sys` need not be.
fn nic_counters(devices: &str, tap: &str, mac: &str) -> NicDiagnostics {
    let line = devices
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(tap)?.strip_prefix(':'));
    let numbers: Vec<u64> = line
        .unwrap_or_default()
        .split_whitespace()
        .map_while(|n| n.parse().ok())
        .collect();
    let number = |n: usize| numbers.get(n).copied().unwrap_or(0);
    NicDiagnostics {
        mac_address: mac.to_owned(),
        tx_octets: number(0),
        tx_packets: number(1),
        tx_errors: number(2),
        tx_drop: number(3),
        rx_octets: number(8),
        rx_packets: number(9),
        rx_errors: number(10),
        rx_drop: number(11),
    }
}

/// CPU time of a thread in nanoseconds. The kernel counts in ticks of 10 ms for everybody, whatever it ticks at.
fn cpu_time(pid: u32, thread: u64) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/task/{thread}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * 10_000_000)
}

fn resident_mib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_accounts_for_this_process() {
        let pid = std::process::id();
        assert!(resident_mib(pid).is_some());
        assert!(cpu_time(pid, u64::from(pid)).is_some());
        assert_eq!(cpu_time(pid, u64::MAX), None);
    }

    #[test]
    fn what_the_tap_sends_the_guest_receives() {
        let devices =
            "  face |bytes packets\n  tap1: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n tap11: 9 9 9 9 9 9 9 9 9 9 9 9\n";
        let counters = nic_counters(devices, "tap1", "m");
        assert_eq!(
            (
                counters.tx_octets,
                counters.tx_packets,
                counters.rx_octets,
                counters.rx_drop
            ),
            (1, 2, 5, 8)
        );
        assert_eq!(nic_counters(devices, "tap2", "m").rx_octets, 0);
    }
}
