//! The host's side of the external bridge: its address, so that the host reaches floating addresses, and what guests need
//! to reach the world through the host. Everything happens in the network namespace of the caller, over netlink; only
//! the bridge's own port and a packet filter table of the cloud's own are touched, never the machine's addresses and routes.

use crate::{Error, Machine};
use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::{Handle, LinkUnspec};
use std::net::IpAddr;
use std::path::Path;

/// A netlink connection in this network namespace; its task ends with the handle.
fn connect() -> Result<Handle, Error> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(|source| Error::Run {
        program: "netlink".to_owned(),
        source,
    })?;
    tokio::spawn(connection);
    Ok(handle)
}

async fn index(handle: &Handle, device: &str) -> Result<Option<u32>, Error> {
    let mut links = handle.link().get().match_name(device.to_owned()).execute();
    match links.try_next().await {
        Ok(link) => Ok(link.map(|l| l.header.index)),
        // ENODEV
        Err(rtnetlink::Error::NetlinkError(e)) if e.raw_code() == -libc::ENODEV => Ok(None),
        Err(source) => Err(Error::Netlink {
            doing: "looking for",
            device: device.to_owned(),
            source,
        }),
    }
}

/// Gives the bridge's port these addresses (others it has stay) and takes it up. Returns whether anything changed.
pub async fn ensure_addresses(device: &str, addresses: &[IpNet]) -> Result<bool, Error> {
    let failed = |doing| {
        move |source| Error::Netlink {
            doing,
            device: device.to_owned(),
            source,
        }
    };
    let handle = connect()?;
    let index = index(&handle, device)
        .await?
        .ok_or_else(|| Error::NoDevice(device.to_owned()))?;
    let mut has: Vec<(IpAddr, u8)> = Vec::new();
    let mut known = handle.address().get().set_link_index_filter(index).execute();
    while let Some(message) = known.try_next().await.map_err(failed("reading the addresses of"))? {
        for attribute in &message.attributes {
            if let AddressAttribute::Address(address) | AddressAttribute::Local(address) = attribute {
                has.push((*address, message.header.prefix_len));
            }
        }
    }
    let mut changed = false;
    for address in addresses.iter().filter(|a| !has.contains(&(a.addr(), a.prefix_len()))) {
        handle
            .address()
            .add(index, address.addr(), address.prefix_len())
            .execute()
            .await
            .map_err(failed("giving an address to"))?;
        changed = true;
    }
    handle
        .link()
        .set(LinkUnspec::new_with_index(index).up().build())
        .execute()
        .await
        .map_err(failed("taking up"))?;
    Ok(changed)
}

/// Removes a device (a tap, a veth end) if it is there. Returns whether it was.
pub async fn remove_device(device: &str) -> Result<bool, Error> {
    let handle = connect()?;
    let Some(index) = index(&handle, device).await? else {
        return Ok(false);
    };
    match handle.link().del(index).execute().await {
        Ok(()) => Ok(true),
        Err(source) => Err(Error::Netlink {
            doing: "removing",
            device: device.to_owned(),
            source,
        }),
    }
}

/// How guests' packets to the world are translated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outbound {
    /// By nftables, in the table of this name.
    Nftables(String),
    /// By iptables, in a chain of this name.
    Iptables(String),
    /// Not at all, and why; the cloud works, guests only do not reach beyond the host.
    None(String),
}

/// A name that is the cloud's own and that both tools take.
fn table_name(cloud: &str) -> Result<String, Error> {
    let good = !cloud.is_empty() && cloud.len() <= 16 && cloud.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if good {
        Ok(format!("ferrostack_{cloud}"))
    } else {
        Err(Error::Name(cloud.to_owned()))
    }
}

/// The rules for nft: addresses of the external network that leave by another device become the host's.
pub fn nftables_rules(table: &str, network: &IpNet, device: &str) -> String {
    let family = if network.addr().is_ipv4() { "ip" } else { "ip6" };
    format!(
        "table {family} {table} {{}}\ndelete table {family} {table}\ntable {family} {table} {{\n\tchain postrouting {{\n\t\ttype nat \
         hook postrouting priority srcnat; policy accept;\n\t\t{family} saddr {} oifname != \"{device}\" masquerade\n\t}}\n}}\n",
        network.trunc()
    )
}

/// Lets guests out through the host: forwarding on, and source translation by whatever the machine has. Can be run again.
pub fn ensure_outbound(machine: &dyn Machine, cloud: &str, network: &IpNet, device: &str) -> Result<Outbound, Error> {
    let table = table_name(cloud)?;
    if !machine.is_root() {
        return Ok(Outbound::None("it takes root".to_owned()));
    }
    let switch = if network.addr().is_ipv4() {
        "/proc/sys/net/ipv4/ip_forward"
    } else {
        "/proc/sys/net/ipv6/conf/all/forwarding"
    };
    let translated = translate(machine, &table, network, device);
    if !matches!(translated, Outbound::None(_)) && machine.read(Path::new(switch)).is_ok_and(|v| v.trim() == "0") {
        std::fs::write(switch, "1").map_err(Error::io("switching on", Path::new(switch)))?;
    }
    Ok(translated)
}

fn translate(machine: &dyn Machine, table: &str, network: &IpNet, device: &str) -> Outbound {
    let mut reasons = Vec::new();
    let mut attempt = |program: &str, arguments: &[&str]| match machine.run(program, arguments, &[]) {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            reasons.push(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()));
            false
        }
        Err(_) => {
            reasons.push(format!("{program} is not installed"));
            false
        }
    };
    if machine.program("nft").is_some() {
        let file = tempfile::NamedTempFile::new()
            .and_then(|file| std::fs::write(file.path(), nftables_rules(table, network, device)).map(|()| file));
        if let Ok(file) = file
            && attempt("nft", &["-f", &file.path().to_string_lossy()])
        {
            return Outbound::Nftables(table.to_owned());
        }
    }
    let program = if network.addr().is_ipv4() {
        "iptables"
    } else {
        "ip6tables"
    };
    let network = network.trunc().to_string();
    let jump = ["-w", "-t", "nat", "-C", "POSTROUTING", "-j", table];
    let _ = attempt(program, &["-w", "-t", "nat", "-N", table]);
    let made = attempt(program, &["-w", "-t", "nat", "-F", table])
        && attempt(
            program,
            &[
                "-w",
                "-t",
                "nat",
                "-A",
                table,
                "-s",
                &network,
                "!",
                "-o",
                device,
                "-j",
                "MASQUERADE",
            ],
        )
        && (attempt(program, &jump) || attempt(program, &jump.map(|word| if word == "-C" { "-A" } else { word })));
    if made {
        Outbound::Iptables(table.to_owned())
    } else {
        Outbound::None(reasons.pop().unwrap_or_default())
    }
}

/// Takes the translation away again. Forwarding stays, as something else may have come to rely on it.
pub fn remove_outbound(machine: &dyn Machine, outbound: &Outbound) {
    // What is not there any more cannot be removed, and need not.
    match outbound {
        Outbound::Nftables(table) => {
            for family in ["ip", "ip6"] {
                let _ = machine.run("nft", &["delete", "table", family, table], &[]);
            }
        }
        Outbound::Iptables(table) => {
            for program in ["iptables", "ip6tables"] {
                for words in [
                    vec!["-D", "POSTROUTING", "-j", table],
                    vec!["-F", table],
                    vec!["-X", table],
                ] {
                    let _ = machine.run(program, &[&["-w", "-t", "nat"], words.as_slice()].concat(), &[]);
                }
            }
        }
        Outbound::None(_) => {}
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::FakeMachine;

    fn network() -> IpNet {
        "172.24.4.1/24".parse().unwrap()
    }

    #[test]
    fn rules_are_the_clouds_own() {
        let rules = nftables_rules("ferrostack_a", &network(), "br-ex");
        assert!(
            rules.contains("ip saddr 172.24.4.0/24 oifname != \"br-ex\" masquerade"),
            "{rules}"
        );
        assert!(
            rules.starts_with("table ip ferrostack_a {}\ndelete table ip ferrostack_a\n"),
            "running it twice gives one"
        );
        assert!(matches!(table_name("a; flush ruleset"), Err(Error::Name(_))));
    }

    #[test]
    fn falls_back_to_iptables_and_then_to_none() {
        let failing = |part: &str| (part.to_owned(), 1, "no such thing".to_owned());
        let machine = FakeMachine {
            answers: vec![failing("nft"), failing("-C POSTROUTING")],
            ..FakeMachine::default().with_programs(&["nft"])
        };
        let found = translate(&machine, "ferrostack_a", &network(), "br-ex");
        assert_eq!(found, Outbound::Iptables("ferrostack_a".to_owned()));
        assert!(
            machine
                .commands()
                .last()
                .unwrap()
                .ends_with("-A POSTROUTING -j ferrostack_a")
        );
        let machine = FakeMachine {
            answers: vec![failing("tables")],
            ..FakeMachine::default()
        };
        assert!(matches!(
            translate(&machine, "ferrostack_a", &network(), "br-ex"),
            Outbound::None(_)
        ));
    }

    /// In a network namespace of its own: a device gets its address once, and nothing else changes.
    #[test]
    fn addresses_in_a_namespace() {
        if !nix::unistd::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "this test needs root");
            return;
        }
        // The namespace is the thread's: the runtime's only thread enters it.
        let entered = std::thread::spawn(|| {
            if nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).is_err() {
                assert!(std::env::var_os("CI").is_none(), "this test needs network namespaces");
                return;
            }
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let name = "host-br-ex";
                let wanted: Vec<IpNet> = vec!["172.24.4.1/24".parse().unwrap(), "2001:db8::1/64".parse().unwrap()];
                assert!(matches!(ensure_addresses(name, &wanted).await, Err(Error::NoDevice(_))));
                let handle = connect().unwrap();
                let veth = rtnetlink::LinkVeth::new(name, "host-peer").build();
                handle.link().add(veth).execute().await.unwrap();
                assert!(ensure_addresses(name, &wanted).await.unwrap());
                assert!(
                    !ensure_addresses(name, &wanted).await.unwrap(),
                    "the second time there is nothing to do"
                );
                assert!(remove_device(name).await.unwrap());
                assert!(!remove_device(name).await.unwrap());
            });
        });
        entered.join().unwrap();
    }
}
