//! `ferrostack doctor`: what is missing or wrong, and what to do about it.

use super::services::Daemons;
use crate::Failure;
use crate::cli;
use crate::layout::Layout;
use host::doctor::{Severity, report};
use serde_json::json;
use std::process::ExitCode;

/// Runs the command; the exit code says whether there is a problem.
pub fn run(doctor: &cli::Doctor) -> Result<ExitCode, Failure> {
    let layout = Layout::find(&doctor.common)?;
    let daemons = Daemons::find(&layout)?;
    let report = report(&daemons.probe);
    if doctor.json {
        let name = |s: &Severity| match s {
            Severity::Good => "good",
            Severity::Notice => "notice",
            Severity::Problem => "problem",
        };
        let findings = report.findings.iter().map(|f| json!({"severity": name(&f.severity), "subject": f.subject, "sentence": f.sentence}));
        println!("{}", serde_json::to_string_pretty(&findings.collect::<Vec<_>>())?);
    } else {
        for finding in &report.findings {
            let mark = match finding.severity {
                Severity::Good => "ok     ",
                Severity::Notice => "note   ",
                Severity::Problem => "PROBLEM",
            };
            println!("{mark} {}: {}", finding.subject, finding.sentence);
        }
    }
    Ok(if report.is_healthy() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
