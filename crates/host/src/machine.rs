//! Looking at a machine, real or made up.

use crate::install::NoDaemons;
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::Mutex;

/// What probing and installing ask of a machine.
pub trait Machine {
    /// Where a program is, by name.
    fn program(&self, name: &str) -> Option<PathBuf>;
    /// A file's content.
    fn read(&self, path: &Path) -> io::Result<String>;
    /// Whether there is something at a path.
    fn exists(&self, path: &Path) -> bool;
    /// Names in a folder.
    fn list(&self, path: &Path) -> Vec<String>;
    /// Where a link points.
    fn link(&self, path: &Path) -> Option<PathBuf>;
    /// Whether a device can be opened for reading and writing.
    fn openable(&self, path: &Path) -> bool;
    /// Free bytes where a path is or would be.
    fn free_space(&self, path: &Path) -> Option<u64>;
    /// Runs a program to its end; its output is returned.
    fn run(&self, program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> io::Result<Output>;
    /// Whether this process is root.
    fn is_root(&self) -> bool;
    /// Keeps packages from starting daemons until the guard goes.
    fn keep_daemons_stopped(&self) -> Option<NoDaemons> {
        None
    }
}

/// The machine this runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealMachine;

/// Where programs are looked for after PATH: an ordinary user's PATH lacks the system's.
const SYSTEM_FOLDERS: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

impl Machine for RealMachine {
    fn program(&self, name: &str) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .chain(SYSTEM_FOLDERS.iter().map(PathBuf::from))
            .map(|folder| folder.join(name))
            .find(|file| {
                file.metadata()
                    .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
            })
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn list(&self, path: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    }

    fn link(&self, path: &Path) -> Option<PathBuf> {
        std::fs::read_link(path).ok()
    }

    fn openable(&self, path: &Path) -> bool {
        std::fs::OpenOptions::new().read(true).write(true).open(path).is_ok()
    }

    fn free_space(&self, path: &Path) -> Option<u64> {
        let there = path.ancestors().find(|p| p.exists())?;
        let stat = nix::sys::statvfs::statvfs(there).ok()?;
        Some(stat.blocks_available() * stat.fragment_size())
    }

    fn run(&self, program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> io::Result<Output> {
        let program = self
            .program(program)
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Command::new(program)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .output()
    }

    fn is_root(&self) -> bool {
        nix::unistd::geteuid().is_root()
    }

    fn keep_daemons_stopped(&self) -> Option<NoDaemons> {
        Some(NoDaemons::new(Path::new("/usr/sbin/policy-rc.d")))
    }
}

/// A machine that exists only in a test: what is in its fields is there, and what is run is noted.
#[derive(Default)]
pub struct FakeMachine {
    /// Programs and where they are.
    pub programs: BTreeMap<String, PathBuf>,
    /// Files with their content.
    pub files: BTreeMap<PathBuf, String>,
    /// Links.
    pub links: BTreeMap<PathBuf, PathBuf>,
    /// Free bytes everywhere.
    pub free: u64,
    /// Whether the user is root.
    pub root: bool,
    /// What was run, one line each.
    pub ran: Mutex<Vec<String>>,
    /// What running gives: the first entry whose text a command line contains decides on exit code and stderr.
    pub answers: Vec<(String, i32, String)>,
}

impl FakeMachine {
    /// Adds programs in /usr/bin.
    pub fn with_programs(mut self, names: &[&str]) -> FakeMachine {
        self.programs
            .extend(names.iter().map(|n| ((*n).to_owned(), Path::new("/usr/bin").join(n))));
        self
    }

    /// Adds a file.
    pub fn with_file(mut self, path: &str, content: &str) -> FakeMachine {
        self.files.insert(path.into(), content.to_owned());
        self
    }

    /// What was run so far.
    pub fn commands(&self) -> Vec<String> {
        self.ran.lock().map(|ran| ran.clone()).unwrap_or_default()
    }
}

impl Machine for FakeMachine {
    fn program(&self, name: &str) -> Option<PathBuf> {
        self.programs.get(name).cloned()
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        self.files
            .get(path)
            .cloned()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn exists(&self, path: &Path) -> bool {
        self.files.keys().chain(self.links.keys()).any(|p| p.starts_with(path))
    }

    fn list(&self, path: &Path) -> Vec<String> {
        let mut names: Vec<String> = (self.files.keys().chain(self.links.keys()))
            .filter_map(|p| p.strip_prefix(path).ok()?.components().next())
            .map(|c| c.as_os_str().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names.dedup();
        names
    }

    fn link(&self, path: &Path) -> Option<PathBuf> {
        self.links.get(path).cloned()
    }

    fn openable(&self, path: &Path) -> bool {
        self.files.contains_key(path)
    }

    fn free_space(&self, _: &Path) -> Option<u64> {
        Some(self.free)
    }

    fn run(&self, program: &str, arguments: &[&str], _: &[(&str, &str)]) -> io::Result<Output> {
        use std::os::unix::process::ExitStatusExt;
        let line = std::iter::once(&program)
            .chain(arguments)
            .copied()
            .collect::<Vec<_>>()
            .join(" ");
        let answer = self.answers.iter().find(|(part, ..)| line.contains(part.as_str()));
        let (code, errors) = answer.map_or((0, String::new()), |(_, code, errors)| (*code, errors.clone()));
        if let Ok(mut ran) = self.ran.lock() {
            ran.push(line);
        }
        Ok(Output {
            status: ExitStatus::from_raw(code << 8),
            stdout: Vec::new(),
            stderr: errors.into_bytes(),
        })
    }

    fn is_root(&self) -> bool {
        self.root
    }
}
