//! As much of ELF as copying a program with its libraries and a kernel module with its dependencies takes.

/// Bytes of a field; out of range gives none.
fn field(data: &[u8], at: u64, length: u64) -> Option<&[u8]> {
    let start = usize::try_from(at).ok()?;
    data.get(start..start.checked_add(usize::try_from(length).ok()?)?)
}

fn u16_at(data: &[u8], at: u64) -> Option<u64> {
    Some(u64::from(u16::from_le_bytes(field(data, at, 2)?.try_into().ok()?)))
}

fn u32_at(data: &[u8], at: u64) -> Option<u64> {
    Some(u64::from(u32::from_le_bytes(field(data, at, 4)?.try_into().ok()?)))
}

fn u64_at(data: &[u8], at: u64) -> Option<u64> {
    Some(u64::from_le_bytes(field(data, at, 8)?.try_into().ok()?))
}

fn string_at(data: &[u8], at: u64) -> Option<String> {
    let bytes = data.get(usize::try_from(at).ok()?..)?;
    let end = bytes.iter().position(|&b| b == 0)?;
    String::from_utf8(bytes[..end].to_vec()).ok()
}

/// What a program or library says it needs: the interpreter's path, and the names of libraries.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The dynamic loader, for programs.
    pub interpreter: Option<String>,
    /// DT_NEEDED.
    pub libraries: Vec<String>,
}

/// Reads the needs of a 64-bit little-endian ELF file; none for anything else (scripts, static programs).
pub fn needs(data: &[u8]) -> Option<Needs> {
    if !data.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, entry_size, entries) = (u64_at(data, 32)?, u16_at(data, 54)?, u16_at(data, 56)?);
    let headers: Vec<[u64; 4]> = (0..entries)
        .filter_map(|i| {
            let at = table.checked_add(i * entry_size)?;
            Some([
                u32_at(data, at)?,
                u64_at(data, at + 8)?,
                u64_at(data, at + 16)?,
                u64_at(data, at + 32)?,
            ])
        })
        .collect();
    let in_file = |address: u64| {
        let [_, offset, base, _] = headers
            .iter()
            .find(|[kind, _, base, size]| *kind == 1 && address >= *base && address - base < *size)?;
        offset.checked_add(address - base)
    };
    let mut found = Needs::default();
    for &[kind, offset, _, size] in &headers {
        match kind {
            3 => found.interpreter = string_at(data, offset),
            2 => {
                let dynamic: Vec<(u64, u64)> = (0..size / 16)
                    .filter_map(|i| Some((u64_at(data, offset + 16 * i)?, u64_at(data, offset + 16 * i + 8)?)))
                    .take_while(|(tag, _)| *tag != 0)
                    .collect();
                let strings = dynamic
                    .iter()
                    .find(|(tag, _)| *tag == 5)
                    .and_then(|(_, address)| in_file(*address));
                for (_, name) in dynamic.iter().filter(|(tag, _)| *tag == 1) {
                    found
                        .libraries
                        .extend(strings.and_then(|s| string_at(data, s.checked_add(*name)?)));
                }
            }
            _ => {}
        }
    }
    Some(found)
}

/// Values of one key of a kernel module's `.modinfo` (`depends`, `alias`), which is a list of `key=value\0`.
pub fn modinfo(module: &[u8], key: &str) -> Vec<String> {
    let wanted = format!("{key}=");
    module
        .split(|&b| b == 0)
        .filter_map(|entry| std::str::from_utf8(entry.strip_prefix(wanted.as_bytes())?).ok())
        .map(str::to_owned)
        .collect()
}

/// A module without the signature at its end: checking it costs the guest time, and nothing there asks for it.
pub fn without_signature(module: &[u8]) -> &[u8] {
    const MAGIC: &[u8] = b"~Module signature appended~\n";
    let Some(signed) = module.strip_suffix(MAGIC) else {
        return module;
    };
    // struct module_signature: twelve bytes, the last four the signature's length, big-endian.
    let Some(length) = signed.last_chunk::<4>().map(|b| u32::from_be_bytes(*b) as usize) else {
        return module;
    };
    match signed.len().checked_sub(12 + length) {
        Some(end) => &signed[..end],
        None => module,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn needs_of_a_real_program() {
        let program = std::fs::read("/proc/self/exe").unwrap();
        let needs = needs(&program).unwrap();
        assert!(needs.libraries.iter().any(|l| l.starts_with("libc.so")), "{needs:?}");
        assert!(needs.interpreter.unwrap().contains("ld-"));
    }

    #[test]
    fn modules() {
        let mut module = b"\x7fELF\0license=GPL\0depends=virtio,virtio_ring\0alias=virtio:d1v*\0alias=fs-x\0".to_vec();
        assert_eq!(modinfo(&module, "depends"), ["virtio,virtio_ring"]);
        assert_eq!(modinfo(&module, "alias"), ["virtio:d1v*", "fs-x"]);
        let plain = module.clone();
        module.extend_from_slice(b"SIGNATURE");
        module.extend_from_slice(&[0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
        module.extend_from_slice(b"~Module signature appended~\n");
        assert_eq!(without_signature(&module), plain);
        assert_eq!(without_signature(&plain), plain);
    }

    #[test]
    fn nonsense_needs_nothing() {
        assert_eq!(needs(b"#!/bin/sh"), None);
        assert_eq!(needs(b"\x7fELF\x02\x01short"), None);
        let mut wild = std::fs::read("/proc/self/exe").unwrap();
        wild.truncate(4096);
        for byte in wild.iter_mut().skip(32) {
            *byte = 0xff;
        }
        let _ = needs(&wild);
    }
}
