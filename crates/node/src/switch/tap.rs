//! Tap devices and links, by ioctl and by one netlink message: an ioctl is three system calls, where rtnetlink would
//! bring a dozen crates for the same.

use super::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

const TUN: &str = "/dev/net/tun";

/// `struct ifreq`: a name and a union, of which all that is used here fits in 24 bytes.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    data: [u8; 24],
}

impl Request {
    fn new(name: &str) -> io::Result<Request> {
        let mut r = Request {
            name: [0; libc::IFNAMSIZ],
            data: [0; 24],
        };
        let valid = !name.is_empty() && name.len() < libc::IFNAMSIZ && !name.contains(['/', '\0', ' ', '%']);
        if !valid {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a name of an interface",
            ));
        }
        r.name[..name.len()].copy_from_slice(name.as_bytes());
        Ok(r)
    }

    fn with_int(mut self, n: i32) -> Request {
        self.data[..4].copy_from_slice(&n.to_ne_bytes());
        self
    }

    fn with_short(mut self, n: u16) -> Request {
        self.data[..2].copy_from_slice(&n.to_ne_bytes());
        self
    }
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn ioctl(fd: &impl AsRawFd, request: libc::c_ulong, argument: &mut Request) -> io::Result<()> {
    // SAFETY: every request used in this file reads or writes at most a `struct ifreq`, which `Request` is.
    checked(unsafe { libc::ioctl(fd.as_raw_fd(), request as _, std::ptr::from_mut(argument)) }).map(drop)
}

fn ioctl_value(fd: &impl AsRawFd, request: libc::c_ulong, value: libc::c_ulong) -> io::Result<()> {
    // SAFETY: TUNSETOWNER, TUNSETGROUP and TUNSETPERSIST take a number.
    checked(unsafe { libc::ioctl(fd.as_raw_fd(), request as _, value) }).map(drop)
}

fn socket() -> io::Result<OwnedFd> {
    // SAFETY: plain system call; the descriptor is new and ours alone.
    unsafe {
        let fd = checked(libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Whether there is an interface of this name in our network namespace.
pub fn exists(name: &str) -> bool {
    index(name).is_ok()
}

fn index(name: &str) -> io::Result<i32> {
    let mut r = Request::new(name)?;
    ioctl(&socket()?, libc::SIOCGIFINDEX, &mut r)?;
    Ok(i32::from_ne_bytes([r.data[0], r.data[1], r.data[2], r.data[3]]))
}

/// Makes a tap that stays when its user closes it, or takes over the one of this name. A process with this user id may
/// open it without any capability.
///
/// # Errors
/// If the name is impossible, there is another kind of interface of that name, or the machine has no tun driver.
pub fn ensure(name: &str, owner: Option<u32>, mtu: Option<u16>) -> Result<(), Error> {
    let failed = |source| Error::Interface {
        what: "making tap",
        name: name.to_owned(),
        source,
    };
    if !exists(name) {
        let file = open(name).map_err(failed)?;
        let persist = || {
            if let Some(uid) = owner {
                ioctl_value(&file, libc::TUNSETOWNER as _, uid.into())?;
            }
            ioctl_value(&file, libc::TUNSETPERSIST as _, 1)
        };
        persist().map_err(failed)?;
    }
    if let Some(mtu) = mtu {
        set_mtu(name, mtu)?;
    }
    isolate(name)?;
    set_up(name)
}

/// Closes an interface to the machine itself: what comes in is for the switch alone, and the machine sends nothing out of it.
///
/// The userspace datapath reads packets beside the kernel's network stack, not in place of it. Without this a guest
/// could reach every address of the machine past its security groups, and would get the machine's router
/// solicitations. The kernel's datapath takes packets before the stack sees them; there it changes nothing.
///
/// # Errors
/// If the kernel refuses.
pub fn isolate(name: &str) -> Result<(), Error> {
    let settings = [
        ("ipv6", "disable_ipv6", "1"),
        // No answer to ARP, whoever is asked for.
        ("ipv4", "arp_ignore", "8"),
        // No route leads back through an interface without addresses, so no source is accepted.
        ("ipv4", "rp_filter", "1"),
    ];
    for (family, setting, value) in settings {
        let path = format!("/proc/sys/net/{family}/conf/{name}/{setting}");
        match fs::write(&path, value) {
            // A kernel without IPv6.
            Err(e) if e.kind() == io::ErrorKind::NotFound && family == "ipv6" => {}
            Err(source) => {
                return Err(Error::Interface {
                    what: "isolating",
                    name: name.to_owned(),
                    source,
                });
            }
            Ok(()) => {}
        }
    }
    Ok(())
}

/// A tap as QEMU opens it with `vnet_hdr=off`: the flags must be the same for both.
fn open(name: &str) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(Path::new(TUN))?;
    let mut r = Request::new(name)?.with_short((libc::IFF_TAP | libc::IFF_NO_PI) as u16);
    ioctl(&file, libc::TUNSETIFF as _, &mut r)?;
    Ok(file)
}

/// Greatest packet of an interface.
///
/// # Errors
/// If there is no such interface, or the number is not one for it.
pub fn set_mtu(name: &str, mtu: u16) -> Result<(), Error> {
    let set = || {
        ioctl(
            &socket()?,
            libc::SIOCSIFMTU,
            &mut Request::new(name)?.with_int(mtu.into()),
        )
    };
    set().map_err(|source| Error::Interface {
        what: "setting the MTU of",
        name: name.to_owned(),
        source,
    })
}

/// Brings an interface up.
///
/// # Errors
/// If there is no such interface.
pub fn set_up(name: &str) -> Result<(), Error> {
    let set = || {
        let socket = socket()?;
        let mut r = Request::new(name)?;
        ioctl(&socket, libc::SIOCGIFFLAGS, &mut r)?;
        let flags = u16::from_ne_bytes([r.data[0], r.data[1]]);
        if flags & libc::IFF_UP as u16 != 0 {
            return Ok(());
        }
        ioctl(
            &socket,
            libc::SIOCSIFFLAGS,
            &mut r.with_short(flags | libc::IFF_UP as u16),
        )
    };
    set().map_err(|source| Error::Interface {
        what: "bringing up",
        name: name.to_owned(),
        source,
    })
}

/// Removes an interface, even one that is in use. One that is not there is no error.
///
/// # Errors
/// If the kernel refuses.
pub fn remove(name: &str) -> Result<(), Error> {
    let failed = |source| Error::Interface {
        what: "removing",
        name: name.to_owned(),
        source,
    };
    let Ok(index) = index(name) else { return Ok(()) };
    match delete_link(index).map_err(failed) {
        // Gone between the two calls.
        Err(Error::Interface { source, .. }) if source.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        other => other,
    }
}

/// RTM_DELLINK (`rtnetlink(7)`), with an acknowledgement.
fn delete_link(index: i32) -> io::Result<()> {
    let mut message = [0u8; 32];
    message[0..4].copy_from_slice(&32u32.to_ne_bytes());
    message[4..6].copy_from_slice(&libc::RTM_DELLINK.to_ne_bytes());
    message[6..8].copy_from_slice(&((libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16).to_ne_bytes());
    message[20..24].copy_from_slice(&index.to_ne_bytes());
    let mut answer = [0u8; 512];
    // SAFETY: plain system calls on a descriptor of our own, with buffers and their lengths.
    let read = unsafe {
        let fd = checked(libc::socket(
            libc::AF_NETLINK,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            libc::NETLINK_ROUTE,
        ))?;
        let fd = OwnedFd::from_raw_fd(fd);
        checked(libc::send(fd.as_raw_fd(), message.as_ptr().cast(), message.len(), 0) as libc::c_int)?;
        checked(libc::recv(fd.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0) as libc::c_int)?
    };
    // An acknowledgement is an NLMSG_ERROR, whose code is 0 when all went well.
    match answer.get(16..20).and_then(|b| <[u8; 4]>::try_from(b).ok()) {
        Some(code) if read >= 20 => match i32::from_ne_bytes(code) {
            0 => Ok(()),
            e => Err(io::Error::from_raw_os_error(-e)),
        },
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_names_are_refused_before_the_kernel_sees_them() {
        for name in ["", "a/b", "sixteen-letters!", "a b", "tap%d"] {
            assert!(
                matches!(ensure(name, None, None), Err(Error::Interface { .. })),
                "{name}"
            );
            assert!(!exists(name));
        }
    }
}
