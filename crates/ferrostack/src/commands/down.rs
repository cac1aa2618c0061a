//! `ferrostack down`: stops the daemons and leaves guests alone; with `--purge` nothing is left.

use super::services::Daemons;
use crate::Failure;
use crate::cli::Down;
use crate::layout::Layout;
use host::RealMachine;
use host::install::ask_on_terminal;
use host::manifest::Manifest;

/// Runs the command.
pub fn run(down: &Down) -> Result<(), Failure> {
    let layout = Layout::find(&down.common)?;
    let config = &layout.config;
    let state = config.state_dir();
    if !state.exists() {
        println!("There is no cloud in {}.", state.display());
        return Ok(());
    }
    if down.purge && !down.yes && !ask_on_terminal(&format!("Remove the cloud in {} with all its guests, images and data?", state.display())) {
        return Err("nothing was removed; --yes removes without asking".into());
    }
    let daemons = Daemons::find(&layout)?;
    // The controller first: the node must not learn that everything is gone, and take it for an order.
    for name in &daemons.names {
        if daemons.manager.stop(&RealMachine, name)? {
            println!("stopped {name}");
        }
    }
    if !down.purge {
        println!("The cloud is down; its guests go on. `ferrostack up` brings it back.");
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let problems = runtime.block_on(async {
        let mut problems = Vec::new();
        if !config.general.simulate {
            problems.extend(crate::node::purge(config).await);
        }
        let manifest = Manifest::open(&state.join("manifest.json"))?;
        let removals = manifest.purge(&RealMachine, &daemons.manager, &mut |_| {}).await?;
        problems.extend(removals.into_iter().filter_map(|r| r.result.err().map(|e| format!("{}: {e}", r.item.text()))));
        Ok::<_, Failure>(problems)
    })?;
    if problems.is_empty() {
        println!("Nothing is left of the cloud in {}.", state.display());
        return Ok(());
    }
    Err(format!("not everything could be removed:\n  {}", problems.join("\n  ")).into())
}
