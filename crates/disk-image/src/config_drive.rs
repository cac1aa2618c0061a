//! Config drives: an ISO 9660 image with the volume label `config-2`, made in memory.
//!
//! Every file is there under three names: ISO 9660's own (8.3, ECMA-119), Joliet's for Windows, and Rock Ridge's for Linux,
//! which prefers it. Nothing in the image depends on the time or the machine, so the same files make the same bytes.

use std::collections::BTreeMap;
use std::path::Path;

/// The label by which cloud-init and its kin find the drive.
pub const LABEL: &str = "config-2";

const SECTOR: usize = 2048;
/// Bounds a config drive's content: as long as the metadata of a guest has any reason to be.
const MAX_BYTES: usize = 256 << 20;
/// A directory record has at most 255 bytes, and Joliet names at most 64 characters.
const MAX_NAME: usize = 64;
const MAX_DEPTH: usize = 7;

/// Why a config drive cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A path is empty, absolute, too deep, or has a component that is no plain name.
    #[error("'{0}' cannot be a path on a config drive")]
    Path(String),
    /// One path is a file and a folder at once.
    #[error("'{0}' is a file and a folder on the config drive")]
    Conflict(String),
    /// Too much.
    #[error("a config drive cannot hold {0} bytes")]
    TooLarge(usize),
    /// The image could not be written.
    #[error("writing the config drive: {0}")]
    Write(#[from] std::io::Error),
}

#[derive(Default)]
struct Folder<'a> {
    folders: BTreeMap<&'a str, usize>,
    files: BTreeMap<&'a str, &'a [u8]>,
    parent: usize,
}

/// Where things lie; both trees have the same folders and share the files' data.
struct Layout {
    iso_folders: Vec<(u32, u32)>,
    joliet_folders: Vec<(u32, u32)>,
    files: BTreeMap<(usize, String), (u32, u32)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Tree {
    Iso,
    Joliet,
}

/// Makes the image of `files`, paths with `/` to content.
pub fn build(files: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>, Error> {
    let total = files.values().map(Vec::len).sum();
    if total > MAX_BYTES {
        return Err(Error::TooLarge(total));
    }
    let folders = tree(files)?;
    let count = folders.len();

    // Sectors: 16 and 17 the two volumes, 18 the end of descriptors, then the four path tables.
    let table_sectors = |tree| {
        path_table(&folders, tree, &vec![(0, 0); count], false)
            .len()
            .div_ceil(SECTOR) as u32
    };
    let (iso_table, joliet_table) = (table_sectors(Tree::Iso), table_sectors(Tree::Joliet));
    let mut next = 19 + 2 * (iso_table + joliet_table);
    let mut place = |bytes: usize| {
        let at = next;
        next += (bytes.div_ceil(SECTOR) as u32).max(1);
        (at, bytes as u32)
    };
    let mut layout = Layout {
        iso_folders: vec![(0, 0); count],
        joliet_folders: vec![(0, 0); count],
        files: files_of(&folders).map(|(key, _)| (key, (0, 0))).collect(),
    };
    // Lengths of folders do not depend on where anything is.
    let lengths = |tree| {
        (0..count)
            .map(|i| folder_records(&folders, &layout, tree, i).len())
            .collect::<Vec<_>>()
    };
    let (iso_lengths, joliet_lengths) = (lengths(Tree::Iso), lengths(Tree::Joliet));
    layout.iso_folders = iso_lengths.into_iter().map(&mut place).collect();
    layout.joliet_folders = joliet_lengths.into_iter().map(&mut place).collect();
    let placed: Vec<_> = files_of(&folders)
        .map(|(key, content)| (key, place(content.len())))
        .collect();
    layout.files = placed.into_iter().collect();

    let mut image = vec![0; next as usize * SECTOR];
    let mut put = |sector: u32, bytes: &[u8]| {
        let at = sector as usize * SECTOR;
        image[at..at + bytes.len()].copy_from_slice(bytes);
    };
    put(16, &volume(Tree::Iso, next, &layout, &folders, 19, iso_table));
    put(
        17,
        &volume(Tree::Joliet, next, &layout, &folders, 19 + 2 * iso_table, joliet_table),
    );
    put(18, b"\xffCD001\x01");
    let mut at = 19;
    for (tree, places, sectors) in [
        (Tree::Iso, &layout.iso_folders, iso_table),
        (Tree::Joliet, &layout.joliet_folders, joliet_table),
    ] {
        for big_endian in [false, true] {
            put(at, &path_table(&folders, tree, places, big_endian));
            at += sectors;
        }
    }
    for (i, places) in layout.iso_folders.iter().zip(&layout.joliet_folders).enumerate() {
        put(places.0.0, &folder_records(&folders, &layout, Tree::Iso, i));
        put(places.1.0, &folder_records(&folders, &layout, Tree::Joliet, i));
    }
    for (key, content) in files_of(&folders) {
        put(layout.files[&key].0, content);
    }
    Ok(image)
}

/// Makes the image and puts it at `path` in one step, readable by its owner alone: it holds the guest's secrets.
pub fn write(files: &BTreeMap<String, Vec<u8>>, path: &Path) -> Result<(), Error> {
    use std::io::Write;
    let image = build(files)?;
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&image)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}

/// Folders breadth first, as path tables want them; the first is the root.
fn tree(files: &BTreeMap<String, Vec<u8>>) -> Result<Vec<Folder<'_>>, Error> {
    let mut depth_first = vec![Folder::default()];
    for (path, content) in files {
        let parts: Vec<&str> = path.split('/').collect();
        let plain = |part: &&str| {
            !part.is_empty()
                && !matches!(*part, "." | "..")
                && part.len() <= MAX_NAME
                && part
                    .chars()
                    .all(|c| !c.is_control() && (c as u32) < 0x1_0000 && !r#"*:;?\"#.contains(c))
        };
        if parts.len() > MAX_DEPTH || !parts.iter().all(plain) {
            return Err(Error::Path(path.clone()));
        }
        let mut at = 0;
        for part in &parts[..parts.len() - 1] {
            if depth_first[at].files.contains_key(part) {
                return Err(Error::Conflict(path.clone()));
            }
            at = match depth_first[at].folders.get(part) {
                Some(&known) => known,
                None => {
                    let new = depth_first.len();
                    depth_first.push(Folder {
                        parent: at,
                        ..Folder::default()
                    });
                    depth_first[at].folders.insert(part, new);
                    new
                }
            };
        }
        let name = parts[parts.len() - 1];
        if depth_first[at].folders.contains_key(name) {
            return Err(Error::Conflict(path.clone()));
        }
        depth_first[at].files.insert(name, content);
    }
    let mut order = vec![0];
    let mut i = 0;
    while i < order.len() {
        order.extend(depth_first[order[i]].folders.values().copied());
        i += 1;
    }
    let position: BTreeMap<usize, usize> = order.iter().enumerate().map(|(new, &old)| (old, new)).collect();
    let mut old: Vec<Option<Folder>> = depth_first.into_iter().map(Some).collect();
    Ok(order
        .iter()
        .filter_map(|&i| old[i].take())
        .map(|folder| Folder {
            folders: folder
                .folders
                .into_iter()
                .map(|(name, i)| (name, position[&i]))
                .collect(),
            files: folder.files,
            parent: position[&folder.parent],
        })
        .collect())
}

fn files_of<'a>(folders: &'a [Folder<'a>]) -> impl Iterator<Item = ((usize, String), &'a [u8])> {
    folders.iter().enumerate().flat_map(|(i, folder)| {
        folder
            .files
            .iter()
            .map(move |(name, content)| ((i, (*name).to_owned()), *content))
    })
}

fn both16(value: u16) -> [u8; 4] {
    let (le, be) = (value.to_le_bytes(), value.to_be_bytes());
    [le[0], le[1], be[0], be[1]]
}

fn both32(value: u32) -> [u8; 8] {
    let mut both = [0; 8];
    both[..4].copy_from_slice(&value.to_le_bytes());
    both[4..].copy_from_slice(&value.to_be_bytes());
    both
}

fn ucs2(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// 8.3 names in capitals, made unique within their folder by a number.
fn iso_names<'a>(folder: &Folder<'a>) -> BTreeMap<&'a str, String> {
    let mut names = BTreeMap::new();
    let mut taken = std::collections::BTreeSet::new();
    let clean = |text: &str, length: usize| -> String {
        let fit = |c: char| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        };
        text.chars().map(fit).take(length).collect()
    };
    for (name, is_file) in folder
        .folders
        .keys()
        .map(|n| (n, false))
        .chain(folder.files.keys().map(|n| (n, true)))
    {
        let (stem, extension) = if is_file {
            name.rsplit_once('.').unwrap_or((name, ""))
        } else {
            (*name, "")
        };
        let extension = clean(extension, 3);
        let compose = |stem: String| if is_file { format!("{stem}.{extension};1") } else { stem };
        let mut iso = compose(clean(stem, 8));
        let mut number = 0;
        while !taken.insert(iso.clone()) {
            number += 1;
            let suffix = number.to_string();
            iso = compose(format!("{}{suffix}", clean(stem, 8 - suffix.len().min(7))));
        }
        names.insert(*name, iso);
    }
    names
}

/// One record of a folder (ECMA-119 9.1); the date is 1980-01-01.
fn record(identifier: &[u8], (sector, length): (u32, u32), is_folder: bool, system_use: &[u8]) -> Vec<u8> {
    let mut record = vec![0, 0];
    record.extend_from_slice(&both32(sector));
    // A folder takes whole sectors.
    let length = if is_folder {
        length.div_ceil(SECTOR as u32).max(1) * SECTOR as u32
    } else {
        length
    };
    record.extend_from_slice(&both32(length));
    record.extend_from_slice(&[80, 1, 1, 0, 0, 0, 0]);
    record.extend_from_slice(&[if is_folder { 2 } else { 0 }, 0, 0]);
    record.extend_from_slice(&both16(1));
    record.push(identifier.len() as u8);
    record.extend_from_slice(identifier);
    if record.len() % 2 == 1 {
        record.push(0);
    }
    record.extend_from_slice(system_use);
    if record.len() % 2 == 1 {
        record.push(0);
    }
    record[0] = record.len() as u8;
    record
}

/// Rock Ridge: file mode and links (PX), and the real name (NM).
fn rock_ridge(name: Option<&str>, is_folder: bool, links: u32) -> Vec<u8> {
    let mut entry = b"PX\x24\x01".to_vec();
    let mode: u32 = if is_folder { 0o040555 } else { 0o100444 };
    for value in [mode, links, 0, 0] {
        entry.extend_from_slice(&both32(value));
    }
    if let Some(name) = name {
        entry.extend_from_slice(&[b'N', b'M', 5 + name.len() as u8, 1, 0]);
        entry.extend_from_slice(name.as_bytes());
    }
    entry
}

fn folder_records(folders: &[Folder], layout: &Layout, tree: Tree, index: usize) -> Vec<u8> {
    let folder = &folders[index];
    let places = if tree == Tree::Iso {
        &layout.iso_folders
    } else {
        &layout.joliet_folders
    };
    let links = |i: usize| folders[i].folders.len() as u32 + 2;
    let system_use = |name: Option<&str>, is_folder, links| match tree {
        Tree::Iso => rock_ridge(name, is_folder, links),
        Tree::Joliet => Vec::new(),
    };
    let mut own = system_use(None, true, links(index));
    if index == 0 && tree == Tree::Iso {
        // The root's own record says that the extensions are in use (SP) and which (ER).
        own.splice(..0, *b"SP\x07\x01\xbe\xef\x00");
        own.extend_from_slice(b"ER\x12\x01\x0a\x00\x00\x01RRIP_1991A");
    }
    let mut entries = vec![(Vec::new(), record(&[0], places[index], true, &own))];
    let parent = folder.parent;
    entries.push((
        Vec::new(),
        record(&[1], places[parent], true, &system_use(None, true, links(parent))),
    ));
    let iso = iso_names(folder);
    let mut named: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (name, place, is_folder) in folder.folders.iter().map(|(name, &i)| (*name, places[i], true)).chain(
        folder
            .files
            .keys()
            .map(|name| (*name, layout.files[&(index, (*name).to_owned())], false)),
    ) {
        let identifier = match tree {
            Tree::Iso => iso[name].clone().into_bytes(),
            Tree::Joliet if is_folder => ucs2(name),
            Tree::Joliet => ucs2(&format!("{name};1")),
        };
        let entry_links = if is_folder { 2 } else { 1 };
        let record = record(
            &identifier,
            place,
            is_folder,
            &system_use(Some(name), is_folder, entry_links),
        );
        named.push((identifier, record));
    }
    named.sort();
    entries.extend(named);
    let mut records = Vec::new();
    for (_, record) in entries {
        // Records do not cross sectors.
        let left = SECTOR - records.len() % SECTOR;
        if record.len() > left {
            records.resize(records.len() + left, 0);
        }
        records.extend_from_slice(&record);
    }
    records
}

fn path_table(folders: &[Folder], tree: Tree, places: &[(u32, u32)], big_endian: bool) -> Vec<u8> {
    let mut table = Vec::new();
    for (i, folder) in folders.iter().enumerate() {
        let identifier = if i == 0 {
            vec![0]
        } else {
            let parent = &folders[folder.parent];
            let name = parent
                .folders
                .iter()
                .find(|(_, at)| **at == i)
                .map(|(name, _)| *name)
                .unwrap_or_default();
            match tree {
                Tree::Iso => iso_names(parent).remove(name).unwrap_or_default().into_bytes(),
                Tree::Joliet => ucs2(name),
            }
        };
        let (sector, number) = (places[i].0, folder.parent as u16 + 1);
        table.extend_from_slice(&[identifier.len() as u8, 0]);
        if big_endian {
            table.extend_from_slice(&sector.to_be_bytes());
            table.extend_from_slice(&number.to_be_bytes());
        } else {
            table.extend_from_slice(&sector.to_le_bytes());
            table.extend_from_slice(&number.to_le_bytes());
        }
        table.extend_from_slice(&identifier);
        if identifier.len() % 2 == 1 {
            table.push(0);
        }
    }
    table
}

/// A volume descriptor (ECMA-119 8.4 and 8.5).
fn volume(tree: Tree, sectors: u32, layout: &Layout, folders: &[Folder], tables: u32, table_sectors: u32) -> Vec<u8> {
    let mut sector = vec![0; SECTOR];
    let places = if tree == Tree::Iso {
        &layout.iso_folders
    } else {
        &layout.joliet_folders
    };
    let text = |text: &str, length: usize| -> Vec<u8> {
        let (mut bytes, space) = match tree {
            Tree::Iso => (text.as_bytes().to_vec(), [b' ', b' ']),
            Tree::Joliet => (ucs2(text), [0, b' ']),
        };
        while bytes.len() < length {
            bytes.push(space[bytes.len() % 2]);
        }
        bytes.truncate(length);
        bytes
    };
    let table_length = path_table(folders, tree, places, false).len() as u32;
    let mut put = |at: usize, bytes: &[u8]| sector[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[if tree == Tree::Iso { 1 } else { 2 }]);
    put(1, b"CD001\x01");
    put(8, &text("", 32));
    put(40, &text(LABEL, 32));
    put(80, &both32(sectors));
    if tree == Tree::Joliet {
        // UCS-2 level 3.
        put(88, b"%/E");
    }
    put(120, &both16(1));
    put(124, &both16(1));
    put(128, &both16(SECTOR as u16));
    put(132, &both32(table_length));
    put(140, &tables.to_le_bytes());
    put(148, &(tables + table_sectors).to_be_bytes());
    put(156, &record(&[0], places[0], true, &[]));
    for (at, length) in [
        (190, 128),
        (318, 128),
        (446, 128),
        (574, 128),
        (702, 37),
        (739, 37),
        (776, 37),
    ] {
        put(at, &text("", length));
    }
    for at in [813, 830, 847, 864] {
        put(at, b"0000000000000000");
    }
    put(881, &[1]);
    sector
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::inspect::{Format, Inspector};
    use proptest::prelude::*;

    fn le32(bytes: &[u8], at: usize) -> usize {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
    }

    /// Reads the files of one tree back, by its names.
    fn read(image: &[u8], tree: Tree) -> BTreeMap<String, Vec<u8>> {
        let descriptor = if tree == Tree::Iso { 16 } else { 17 } * SECTOR;
        let mut found = BTreeMap::new();
        let mut queue = vec![(
            String::new(),
            le32(image, descriptor + 158),
            le32(image, descriptor + 166),
        )];
        while let Some((path, sector, length)) = queue.pop() {
            let folder = &image[sector * SECTOR..sector * SECTOR + length];
            let mut at = 0;
            while at < folder.len() {
                let size = usize::from(folder[at]);
                if size == 0 {
                    at = (at / SECTOR + 1) * SECTOR;
                    continue;
                }
                let record = &folder[at..at + size];
                at += size;
                let identifier = &record[33..33 + usize::from(record[32])];
                if identifier == [0] || identifier == [1] {
                    continue;
                }
                let name = match tree {
                    Tree::Joliet => {
                        let units: Vec<u16> = identifier.chunks(2).map(|c| u16::from_be_bytes([c[0], c[1]])).collect();
                        String::from_utf16(&units).unwrap().trim_end_matches(";1").to_owned()
                    }
                    Tree::Iso => {
                        let area = &record[(33 + identifier.len()).next_multiple_of(2)..];
                        assert_eq!(&area[..4], b"PX\x24\x01");
                        assert_eq!(&area[36..38], b"NM");
                        String::from_utf8(area[41..36 + usize::from(area[38])].to_vec()).unwrap()
                    }
                };
                let (start, length) = (le32(record, 2), le32(record, 10));
                let full = if path.is_empty() {
                    name
                } else {
                    format!("{path}/{name}")
                };
                if record[25] & 2 != 0 {
                    queue.push((full, start, length));
                } else {
                    found.insert(full, image[start * SECTOR..start * SECTOR + length].to_vec());
                }
            }
        }
        found
    }

    fn example() -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        files.insert("openstack/latest/meta_data.json".to_owned(), b"{}".to_vec());
        files.insert("openstack/latest/user_data".to_owned(), vec![7; 5000]);
        files.insert("openstack/content/0000".to_owned(), Vec::new());
        files.insert("ec2/2009-04-04/meta-data.json".to_owned(), b"x".to_vec());
        files
    }

    #[test]
    fn both_trees_have_every_file() {
        let image = build(&example()).unwrap();
        assert_eq!(read(&image, Tree::Iso), example());
        assert_eq!(read(&image, Tree::Joliet), example());
        assert_eq!(&image[16 * SECTOR + 40..16 * SECTOR + 48], LABEL.as_bytes());
        let mut inspector = Inspector::new();
        inspector.feed(&image);
        let inspection = inspector.finish();
        let chosen = inspection.chosen().unwrap();
        assert_eq!((chosen.format, chosen.virtual_size), (Format::Iso, image.len() as u64));
    }

    #[test]
    fn many_files_cross_sectors() {
        let files: BTreeMap<_, _> = (0..300)
            .map(|i| (format!("content/a rather long name number {i}.json"), vec![i as u8; i]))
            .collect();
        let image = build(&files).unwrap();
        assert_eq!(read(&image, Tree::Iso), files);
        assert_eq!(read(&image, Tree::Joliet), files);
    }

    #[test]
    fn refuses_what_cannot_be_a_path() {
        for path in [
            "",
            "/etc",
            "a//b",
            "../x",
            "a/..",
            "x\0y",
            "a/b/c/d/e/f/g/h",
            &"n".repeat(65),
        ] {
            let files = BTreeMap::from([(path.to_owned(), Vec::new())]);
            assert!(matches!(build(&files), Err(Error::Path(_))), "{path:?}");
        }
        let files = BTreeMap::from([("a".to_owned(), Vec::new()), ("a/b".to_owned(), Vec::new())]);
        assert!(matches!(build(&files), Err(Error::Conflict(_))));
    }

    #[test]
    fn is_written_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.config");
        write(&example(), &path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read(&path).unwrap(), build(&example()).unwrap());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn any_files_are_read_back(files in proptest::collection::btree_map(
            "[a-z]{1,3}(/[a-zA-Z0-9_ .é-]{1,12}x){0,3}", proptest::collection::vec(any::<u8>(), 0..3000), 0..30)) {
            if let Ok(image) = build(&files) {
                prop_assert_eq!(read(&image, Tree::Iso), files.clone());
                prop_assert_eq!(read(&image, Tree::Joliet), files);
            }
        }
    }
}
