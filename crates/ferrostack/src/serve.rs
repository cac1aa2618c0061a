//! The roles in the foreground: what units, supervisors and containers run.

use crate::Failure;
use crate::cli::{Role, Serve};
use crate::config::Config;
use crate::controller::Controller;
use crate::layout::Layout;
use crate::{logging, secrets};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use tokio::sync::watch;

/// The node's name: as configured, else the host's.
pub fn node_name(config: &Config) -> String {
    if !config.node.name.is_empty() {
        return config.node.name.clone();
    }
    ::node::machine::hostname()
}

/// Where the Open vSwitch in use has its sockets.
pub fn openvswitch_rundir(config: &Config) -> PathBuf {
    match config.node.ovsdb_socket.as_str() {
        "" => ::node::switch::Instance::choose(&config.node_dir().join("openvswitch")).run_dir,
        socket => PathBuf::from(socket).parent().map_or_else(|| PathBuf::from("/"), PathBuf::from),
    }
}

/// Runs the command until SIGTERM or SIGINT.
pub fn run(serve: &Serve) -> Result<(), Failure> {
    let layout = Layout::find(&serve.common)?.with(&serve.shape);
    let config = &layout.config;
    logging::start(&config.general);
    std::fs::create_dir_all(config.state_dir())?;
    // Nobody else reads the database: it has the hashes of passwords.
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(config.controller_dir())?;
    std::fs::create_dir_all(config.run_dir())?;
    let cpus = std::thread::available_parallelism().map_or(2, usize::from).max(2);
    let threads = if config.api.threads == 0 { cpus } else { config.api.threads as usize };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    runtime.block_on(async {
        let (stopper, stop) = watch::channel(false);
        tokio::spawn(async move {
            wait_for_signal().await;
            stopper.send_replace(true);
        });
        if config.general.simulate {
            let controller = build(&layout)?;
            let nodes = crate::node::simulated(config, &controller.nodes)?;
            controller.run(config, stop).await?;
            drop(nodes);
            return Ok(());
        }
        match serve.role {
            Some(Role::Controller) => {
                let controller = build(&layout)?;
                let door = crate::node::door(config, controller.nodes.clone())?;
                tokio::spawn(door);
                controller.run(config, stop).await
            }
            Some(Role::Node) => crate::node::run(config, stop).await,
            None => Err("say which role to serve: --role controller or --role node".into()),
        }
    })
}

fn build(layout: &Layout) -> Result<Controller, Failure> {
    let config = &layout.config;
    let given = config.controller_dir().join("admin-password");
    let password = match std::env::var("FERROSTACK_ADMIN_PASSWORD") {
        Ok(password) if !password.is_empty() => password,
        _ => match std::fs::read_to_string(&given) {
            Ok(text) if !text.trim().is_empty() => text.trim().to_string(),
            _ => secrets::password(&config.state_dir(), "admin")?,
        },
    };
    Controller::build(config, &layout.file, &password)
}

async fn wait_for_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
}
