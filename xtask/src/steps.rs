//! The steps of a test run, in order.

use crate::machine::{packages, root, venv};
use crate::Count;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// One step.
pub struct Step {
    /// What `--only` calls it.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// Whether the quick tier has it.
    pub quick: bool,
    /// Runs it.
    pub run: fn() -> Result<Count, String>,
}

/// All steps.
pub const ALL: &[Step] = &[
    Step { name: "build", about: "the program compiles", quick: true, run: build },
    Step { name: "simulated", about: "the whole cloud simulated, with the real clients", quick: true, run: simulated },
    Step { name: "unit", about: "unit, storage and flow tests of every crate", quick: false, run: unit },
    Step { name: "fuzz", about: "each fuzz target for some seconds", quick: false, run: fuzz },
    Step { name: "tempest", about: "Tempest's open list against the simulated cloud", quick: false, run: tempest },
    Step { name: "scenario", about: "Tempest's essential scenarios against real guests", quick: false, run: scenario },
    Step { name: "lab", about: "the lab with real guests, switch and packets", quick: false, run: lab },
    Step { name: "faults", about: "kill -9 of daemons, guests and the switch, then nothing contradicts", quick: false, run: faults },
];

fn cargo() -> Command {
    let mut c = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    c.current_dir(root());
    c
}

/// Runs a command, prints what it says, and gives every line to `see`.
fn watch(mut command: Command, mut see: impl FnMut(&str)) -> Result<bool, String> {
    let shown = format!("{command:?}");
    let (reader, writer) = std::io::pipe().map_err(|e| e.to_string())?;
    let errors = writer.try_clone().map_err(|e| e.to_string())?;
    let mut child = command.stdin(Stdio::null()).stdout(writer).stderr(errors).spawn().map_err(|e| format!("{shown}: {e}"))?;
    // The command holds the writing ends; without dropping it the reader would never end.
    drop(command);
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.map_err(|e| e.to_string())?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        see(&line);
    }
    Ok(child.wait().map_err(|e| e.to_string())?.success())
}

/// The number before `word` in a summary line.
fn number_before(line: &str, word: &str) -> u32 {
    let words: Vec<&str> = line.split(|c: char| c.is_whitespace() || c == ',' || c == ';').filter(|w| !w.is_empty()).collect();
    words.windows(2).find(|w| w[1] == word).and_then(|w| w[0].parse().ok()).unwrap_or(0)
}

fn build() -> Result<Count, String> {
    packages()?;
    let mut c = cargo();
    c.args(["build", "--quiet", "--package", "ferrostack"]);
    Ok(Count::one(watch(c, |_| {})?))
}

fn unit() -> Result<Count, String> {
    packages()?;
    let mut count = Count::default();
    let mut c = cargo();
    // Doctests too: the examples of the public interfaces must hold.
    c.args(["test", "--quiet", "--workspace", "--no-fail-fast"]).env("CI", "true");
    let fine = watch(c, |line| {
        if line.starts_with("test result:") {
            count.add(Count { passed: number_before(line, "passed"), failed: number_before(line, "failed"), skipped: number_before(line, "ignored") });
        }
    })?;
    if !fine && count.failed == 0 {
        count.failed = 1;
    }
    Ok(count)
}

/// pytest over a folder of `tests/`, in the environment with the clients.
fn pytest(folder: &str) -> Result<Count, String> {
    let clients = venv("clients")?;
    let mut count = Count::default();
    let mut c = Command::new(clients.join("bin/python"));
    c.current_dir(root())
        .args(["-m", "pytest", "-q", "--color=no", "-p", "no:cacheprovider", "-rfE", "--durations=5"])
        .arg(root().join("tests").join(folder))
        .env("FERROSTACK", binary())
        .env("CLIENTS", clients.join("bin"));
    let fine = watch(c, |line| {
        let line = line.trim_matches(['=', ' ']);
        if line.contains(" in ") && (line.contains(" passed") || line.contains(" failed") || line.contains(" error")) {
            let failed = number_before(line, "failed") + number_before(line, "error") + number_before(line, "errors");
            count = Count { passed: number_before(line, "passed"), failed, skipped: number_before(line, "skipped") };
        }
    })?;
    if !fine && count.failed == 0 {
        count.failed = 1;
    }
    Ok(count)
}

fn binary() -> std::path::PathBuf {
    root().join("target/debug/ferrostack")
}

/// Seconds that each fuzz target runs.
const FUZZ_SECONDS: u32 = 15;

fn fuzz() -> Result<Count, String> {
    let tools = root().join("target/tools");
    if !tools.join("bin/cargo-fuzz").exists() {
        let mut install = cargo();
        install.args(["install", "--quiet", "--locked", "cargo-fuzz", "--root"]).arg(&tools);
        if !watch(install, |_| {})? {
            return Err("cargo-fuzz could not be installed".into());
        }
    }
    let path = format!("{}:{}", tools.join("bin").display(), std::env::var("PATH").unwrap_or_default());
    let fuzz = |args: &[&str]| {
        let mut c = cargo();
        // The sanitizer's flag is unstable, and this is the one toolchain there is.
        c.arg("fuzz").args(args).env("PATH", &path).env("RUSTC_BOOTSTRAP", "1");
        c
    };
    let listed = fuzz(&["list"]).output().map_err(|e| e.to_string())?;
    let mut count = Count::default();
    for target in String::from_utf8_lossy(&listed.stdout).lines() {
        let limit = format!("-max_total_time={FUZZ_SECONDS}");
        count.add(Count::one(watch(fuzz(&["run", target, "--", &limit, "-verbosity=0", "-print_final_stats=1"]), |_| {})?));
    }
    if count.passed + count.failed == 0 {
        return Err("no fuzz target was found".into());
    }
    Ok(count)
}

fn simulated() -> Result<Count, String> {
    pytest("clients")
}

fn lab() -> Result<Count, String> {
    packages()?;
    pytest("lab")
}

fn faults() -> Result<Count, String> {
    packages()?;
    pytest("faults")
}

fn tempest() -> Result<Count, String> {
    tempest_script("run.sh")
}

fn scenario() -> Result<Count, String> {
    packages()?;
    tempest_script("real.sh")
}

/// A script of `tests/tempest`, whose last line is `passed P, failed F, skipped S`.
fn tempest_script(script: &str) -> Result<Count, String> {
    let tempest = venv("tempest")?;
    let clients = venv("clients")?;
    let mut count = Count::default();
    let mut c = Command::new("bash");
    c.arg(root().join("tests/tempest").join(script)).env("FERROSTACK", binary()).env("TEMPEST", tempest).env("CLIENTS", clients);
    let fine = watch(c, |line| {
        if line.starts_with("passed ") {
            let number = |word: &str| {
                line.split(',').find_map(|part| part.trim().strip_prefix(word)?.trim().parse().ok()).unwrap_or(0)
            };
            count = Count { passed: number("passed"), failed: number("failed"), skipped: number("skipped") };
        }
    })?;
    if !fine && count.failed == 0 {
        count.failed = 1;
    }
    Ok(count)
}
