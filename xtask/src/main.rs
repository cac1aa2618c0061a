//! The project's own tasks: `cargo xtask test` installs what the tests need and runs all of them.

mod machine;
mod steps;

use clap::{Args, Parser, Subcommand};
use std::process::ExitCode;
use std::time::Instant;

#[derive(Parser)]
#[command(name = "xtask", about = "Tasks of the project")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what the tests need and run them
    Test(Test),
}

#[derive(Args)]
struct Test {
    /// Only the tier that runs the whole cloud simulated, in under a minute after the build
    #[arg(long)]
    quick: bool,
    /// Only these steps, by name
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Name the steps and end
    #[arg(long)]
    list: bool,
}

/// What a step counted.
#[derive(Clone, Copy, Default)]
pub struct Count {
    passed: u32,
    failed: u32,
    skipped: u32,
}

impl Count {
    fn one(passed: bool) -> Count {
        Count { passed: passed as u32, failed: !passed as u32, skipped: 0 }
    }

    fn add(&mut self, other: Count) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

fn main() -> ExitCode {
    let Task::Test(test) = Cli::parse().task;
    let chosen: Vec<_> = steps::ALL
        .iter()
        .filter(|s| if test.only.is_empty() { !test.quick || s.quick } else { test.only.iter().any(|o| o == s.name) })
        .collect();
    if test.list {
        for step in steps::ALL {
            println!("{:<10} {}{}", step.name, step.about, if step.quick { " (quick)" } else { "" });
        }
        return ExitCode::SUCCESS;
    }
    let mut total = Count::default();
    let mut table = Vec::new();
    for step in chosen {
        println!("\n=== {}: {}", step.name, step.about);
        let started = Instant::now();
        let count = (step.run)().unwrap_or_else(|why| {
            println!("{}: {why}", step.name);
            Count::one(false)
        });
        table.push((step.name, count, started.elapsed()));
        total.add(count);
    }
    println!("\n{:<12} {:>7} {:>7} {:>7} {:>8}", "step", "passed", "failed", "skipped", "seconds");
    for (name, count, took) in &table {
        println!("{name:<12} {:>7} {:>7} {:>7} {:>8.0}", count.passed, count.failed, count.skipped, took.as_secs_f64());
    }
    println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    if total.failed == 0 && total.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
