//! `ferrostack status`: what runs and how it is.

use super::services::Daemons;
use crate::Failure;
use crate::cli::Common;
use crate::client;
use crate::layout::Layout;
use crate::listeners;
use host::RealMachine;
use host::service::Status;
use serde_json::json;
use std::process::ExitCode;

/// Runs the command; the exit code says whether all is well.
pub fn run(common: &Common, as_json: bool) -> Result<ExitCode, Failure> {
    let layout = Layout::find(common)?;
    let config = &layout.config;
    let daemons = Daemons::find(&layout)?;
    let mut healthy = true;
    let mut processes = Vec::new();
    for name in &daemons.names {
        let (state, pid, restarts) = match daemons.manager.status(&RealMachine, name)? {
            Status::Running { process, restarts } => ("running".to_string(), process, restarts),
            Status::Stopped => ("stopped".into(), None, 0),
            Status::Failed(why) => (format!("failed: {why}"), None, 0),
        };
        healthy &= state == "running";
        processes.push(json!({"name": name, "state": state, "pid": pid, "restarts": restarts, "log": daemons.log(name)}));
    }
    let services: Vec<_> = listeners::SERVICES
        .iter()
        .map(|(service, _, _)| {
            let url = listeners::base_url(&config.api, service);
            let answers = matches!(client::ping(&format!("{url}/")), Ok(status) if status < 500);
            healthy &= answers;
            json!({"service": service, "url": url, "answers": answers})
        })
        .collect();
    let document = json!({
        "healthy": healthy, "state_dir": config.state_dir(), "config": layout.file, "simulated": config.general.simulate,
        "processes": processes, "services": services, "openvswitch": {"rundir": crate::serve::openvswitch_rundir(config)},
    });
    if as_json {
        println!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        for p in &processes {
            let pid = p["pid"].as_u64().map(|p| format!(" (process {p})")).unwrap_or_default();
            println!("{:<24} {}{pid}", p["name"].as_str().unwrap_or_default(), p["state"].as_str().unwrap_or_default());
        }
        for s in &services {
            let answers = if s["answers"] == true { "answers" } else { "does not answer" };
            println!("{:<24} {answers} at {}", s["service"].as_str().unwrap_or_default(), s["url"].as_str().unwrap_or_default());
        }
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
