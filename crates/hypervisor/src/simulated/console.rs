//! What a played guest shows on its serial port and its screen.

use std::fmt::Write;

use node_protocol::queries::ConsoleKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::GuestSpec;

/// The serial log of a guest that has booted so often.
pub fn boot_log(spec: &GuestSpec, boots: u32, running: bool) -> String {
    let mut log = String::new();
    let memory = spec.memory_mib * 1024;
    let lines = [
        "Linux version 6.1.0-simulated (ferrostack@simulated) #1 SMP PREEMPT_DYNAMIC".to_owned(),
        "Command line: root=/dev/vda1 console=tty0 console=ttyS0,115200".into(),
        "BIOS-provided physical RAM map:".into(),
        "DMI: OpenStack Foundation OpenStack Nova".into(),
        "Hypervisor detected: simulated".into(),
        format!("Memory: {}K/{memory}K available", memory - memory / 10),
        format!("smpboot: Allowing {} CPUs, 0 hotplug CPUs", spec.vcpus),
        "rcu: Hierarchical RCU implementation.".into(),
        "Console: colour VGA+ 80x25".into(),
        "printk: console [ttyS0] enabled".into(),
        "PCI: Using configuration type 1 for base access".into(),
        "clocksource: Switched to clocksource tsc".into(),
        "NET: Registered PF_INET protocol family".into(),
        "Serial: 8250/16550 driver, 4 ports, IRQ sharing enabled".into(),
        "virtio_blk virtio1: [vda] 2097152 512-byte logical blocks (1.07 GB/1.00 GiB)".into(),
        "EXT4-fs (vda1): mounted filesystem with ordered data mode".into(),
        "Run /sbin/init as init process".into(),
        "random: crng init done".into(),
    ];
    let mut clock = 0.0;
    for line in lines {
        clock += 0.037;
        // Writing to a string does not fail.
        let _ = writeln!(log, "[{clock:12.6}] {line}");
    }
    for (n, nic) in spec.nics.iter().enumerate() {
        let _ = writeln!(log, "eth{n}: {} mtu {}: lease obtained", nic.mac, nic.mtu);
    }
    let _ = writeln!(log, "boot number {boots} since this server was made");
    let _ = writeln!(log, "instance-id: {}", spec.id);
    let _ = writeln!(
        log,
        "=== system information ===\nPlatform: OpenStack Foundation OpenStack Nova"
    );
    let _ = writeln!(log, "=== end of boot: ok ===");
    if running {
        let _ = writeln!(log, "\nsimulated login: ");
    } else {
        let _ = writeln!(
            log,
            "The system is going down NOW!\nRequesting system poweroff\nreboot: Power down"
        );
    }
    log
}

/// Plays a console until the viewer goes. An error means that it went.
pub async fn play(mut stream: DuplexStream, kind: ConsoleKind, spec: GuestSpec) {
    let _ = match kind {
        ConsoleKind::Vnc => screen(&mut stream, &spec).await,
        ConsoleKind::Serial => serial(&mut stream).await,
    };
}

async fn serial(stream: &mut DuplexStream) -> std::io::Result<()> {
    stream.write_all(b"\r\nsimulated login: ").await?;
    let mut byte = [0];
    while stream.read(&mut byte).await? == 1 {
        match byte[0] {
            b'\r' | b'\n' => stream.write_all(b"\r\nLogin incorrect\r\nsimulated login: ").await?,
            other => stream.write_all(&[other]).await?,
        }
    }
    Ok(())
}

const WIDTH: u16 = 320;
const HEIGHT: u16 = 200;

/// An RFB 3.8 server (RFC 6143) with a screen of one colour.
async fn screen(stream: &mut DuplexStream, spec: &GuestSpec) -> std::io::Result<()> {
    stream.write_all(b"RFB 003.008\n").await?;
    let mut version = [0; 12];
    stream.read_exact(&mut version).await?;
    // One security type: none.
    stream.write_all(&[1, 1]).await?;
    stream.read_u8().await?;
    stream.write_u32(0).await?;
    // ClientInit, then ServerInit: 32 bits a pixel, depth 24, little endian, true colour, 8 bits each of red, green, blue.
    stream.read_u8().await?;
    stream.write_u16(WIDTH).await?;
    stream.write_u16(HEIGHT).await?;
    stream
        .write_all(&[32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0])
        .await?;
    let name = format!("simulated {}", spec.id);
    stream.write_u32(name.len() as u32).await?;
    stream.write_all(name.as_bytes()).await?;
    let mut bytes_per_pixel = 4;
    loop {
        match stream.read_u8().await? {
            // SetPixelFormat
            0 => {
                let mut format = [0; 19];
                stream.read_exact(&mut format).await?;
                bytes_per_pixel = usize::from(format[3] / 8).clamp(1, 4);
            }
            // SetEncodings
            2 => {
                stream.read_u8().await?;
                for _ in 0..stream.read_u16().await? {
                    stream.read_u32().await?;
                }
            }
            // FramebufferUpdateRequest; an incremental one has nothing new to show.
            3 => {
                let incremental = stream.read_u8().await? != 0;
                let mut area = [0; 8];
                stream.read_exact(&mut area).await?;
                if !incremental {
                    stream.write_all(&[0, 0, 0, 1, 0, 0, 0, 0]).await?;
                    stream.write_u16(WIDTH).await?;
                    stream.write_u16(HEIGHT).await?;
                    stream.write_u32(0).await?;
                    let row = vec![0x20; usize::from(WIDTH) * bytes_per_pixel];
                    for _ in 0..HEIGHT {
                        stream.write_all(&row).await?;
                    }
                }
            }
            // KeyEvent
            4 => drop(stream.read_exact(&mut [0; 7]).await?),
            // PointerEvent
            5 => drop(stream.read_exact(&mut [0; 5]).await?),
            // ClientCutText; a viewer that pastes more than this is not answered.
            6 => {
                stream.read_exact(&mut [0; 3]).await?;
                let length = stream.read_u32().await?;
                if length > 1 << 20 {
                    return Ok(());
                }
                stream.read_exact(&mut vec![0; length as usize]).await?;
            }
            _ => return Ok(()),
        }
    }
}
