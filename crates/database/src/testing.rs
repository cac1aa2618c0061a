//! For tests of storage: every one runs on SQLite and on a real PostgreSQL.
//!
//! PostgreSQL comes from `FERROSTACK_TEST_POSTGRES` (a URL whose user may create databases) where it is set, else from a server
//! that the test process starts for itself out of the distribution's binaries. With `CI` set, a missing PostgreSQL
//! is a failure; elsewhere it is left out with a line on standard error.

use crate::{Database, Migration};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Calls `test` with a fresh, migrated database of each engine.
#[track_caller]
pub fn on_both(sets: &[&[Migration]], test: impl Fn(Database)) {
    let fresh = |db: Database| {
        db.migrate(sets).expect("migrations run on an empty database");
        test(db);
    };
    fresh(Database::temporary().expect("a temporary SQLite database opens"));
    match postgres() {
        Ok(url) => fresh(Database::open(&url).expect("a fresh PostgreSQL database opens")),
        Err(why) if std::env::var_os("CI").is_some() => panic!("no PostgreSQL to test on: {why}"),
        Err(why) => eprintln!("PostgreSQL left out: {why}"),
    }
}

/// The URL of a new, empty database on a PostgreSQL server for tests.
pub fn postgres() -> Result<String, String> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    static SERVER: OnceLock<Result<Server, String>> = OnceLock::new();
    let base = match std::env::var("FERROSTACK_TEST_POSTGRES") {
        Ok(url) => url,
        Err(_) => SERVER.get_or_init(Server::start).as_ref().map_err(Clone::clone)?.url(),
    };
    let name = format!("test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let mut admin = postgres::Client::connect(&base, postgres::NoTls).map_err(|e| format!("{base}: {e}"))?;
    admin.batch_execute(&format!("DROP DATABASE IF EXISTS {name}")).map_err(|e| e.to_string())?;
    admin.batch_execute(&format!("CREATE DATABASE {name}")).map_err(|e| e.to_string())?;
    Ok(base.replacen("/postgres", &format!("/{name}"), 1))
}

struct Server {
    folder: tempfile::TempDir,
}

impl Server {
    fn url(&self) -> String {
        let host = self.folder.path().display().to_string().replace('/', "%2F");
        format!("postgresql://ferrostack@{host}/postgres")
    }

    fn start() -> Result<Server, String> {
        let bin = binaries().ok_or("PostgreSQL's server programs are not installed")?;
        let folder = tempfile::Builder::new().prefix("ferrostack-pg-").tempdir().map_err(|e| e.to_string())?;
        let data = folder.path().join("data");
        // PostgreSQL refuses to run as root; the package makes the user postgres.
        let as_user = |program: &str| {
            let path = bin.join(program);
            if unsafe { libc::geteuid() } == 0 {
                let mut c = Command::new("runuser");
                c.args(["-u", "postgres", "--"]).arg(path);
                c
            } else {
                Command::new(path)
            }
        };
        if unsafe { libc::geteuid() } == 0 {
            let owned = Command::new("chown").args(["postgres"]).arg(folder.path()).status();
            owned.map_err(|e| e.to_string())?;
        }
        let run = |mut c: Command| -> Result<(), String> {
            let out = c.stdin(Stdio::null()).output().map_err(|e| e.to_string())?;
            if out.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&out.stderr).into_owned()) }
        };
        let mut init = as_user("initdb");
        init.args(["--no-sync", "--auth=trust", "--username=ferrostack", "--encoding=UTF8", "--locale=C.UTF-8", "-D"]).arg(&data);
        run(init)?;
        let mut start = as_user("pg_ctl");
        let options = format!("-c listen_addresses='' -c unix_socket_directories='{}' -c fsync=off", folder.path().display());
        start.args(["--wait", "--timeout=30", "-o", &options, "-l"]).arg(folder.path().join("log")).arg("-D").arg(&data).arg("start");
        start.stdout(Stdio::null());
        let status = start.stdin(Stdio::null()).stderr(Stdio::null()).status().map_err(|e| e.to_string())?;
        if !status.success() {
            let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            return Err(format!("PostgreSQL did not start: {log}"));
        }
        let server = Server { folder };
        register_stop(server.folder.path().into(), bin);
        Ok(server)
    }
}

fn binaries() -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(|e| Some(e.ok()?.path().join("bin"))).collect();
    versions.retain(|p| p.join("initdb").exists());
    versions.sort();
    versions.pop()
}

static STOP: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();

/// A static is never dropped, so the server is stopped when the test process exits.
fn register_stop(folder: PathBuf, bin: PathBuf) {
    extern "C" fn stop() {
        let Some((folder, bin)) = STOP.get() else { return };
        let root = unsafe { libc::geteuid() } == 0;
        let mut c = if root { Command::new("runuser") } else { Command::new(bin.join("pg_ctl")) };
        if root {
            c.args(["-u", "postgres", "--"]).arg(bin.join("pg_ctl"));
        }
        let _ = c.args(["-m", "immediate", "-D"]).arg(folder.join("data")).arg("stop").stdout(Stdio::null()).stderr(Stdio::null()).status();
        let _ = std::fs::remove_dir_all(folder);
    }
    if STOP.set((folder, bin)).is_ok() {
        unsafe { libc::atexit(stop) };
    }
}
