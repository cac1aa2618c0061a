//! The daemons of a cloud: their names, how they are started, who keeps them.

use crate::Failure;
use crate::layout::Layout;
use crate::listeners;
use host::account::Owner;
use host::probe::{Probe, Question, Role, probe};
use host::service::{Manager, Sandbox, Service};
use host::{Machine, RealMachine};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The user that the controller runs as.
pub const USER: &str = "ferrostack";

/// A cloud on this machine, as its daemons see it.
pub struct Daemons {
    /// What the machine is.
    pub probe: Probe,
    /// Who keeps the daemons.
    pub manager: Manager,
    /// Their names, in the order in which they start.
    pub names: Vec<String>,
    layout: Layout,
    program: PathBuf,
}

impl Daemons {
    /// Looks at the machine for this cloud.
    pub fn find(layout: &Layout) -> Result<Daemons, Failure> {
        let config = &layout.config;
        let mut ports: Vec<u16> = listeners::SERVICES.iter().map(|(s, _, _)| listeners::port(&config.api, s)).collect();
        if config.api.single_port == 0 {
            ports.push(config.api.novnc_port);
        }
        ports.sort_unstable();
        ports.dedup();
        let question = Question { role: Role::AllInOne, state_folder: existing(&config.state_dir()), ports, user: USER.into() };
        let mut found = probe(&RealMachine, &question);
        if config.general.simulate {
            found.missing.clear();
        }
        let program = config.state_dir().join("bin/ferrostack");
        let launcher: Vec<OsString> = vec![program.clone().into(), "supervise".into()];
        let mut manager = Manager::choose(&found, &config.run_dir(), launcher.clone());
        if config.general.simulate && layout.chosen_folder {
            // A cloud for tests in a folder of its own is no unit of the system.
            manager = Manager::Supervised { folder: config.run_dir(), launcher };
        }
        let roles: &[&str] = if config.general.simulate { &["simulated"] } else { &["controller", "node"] };
        let suffix = if layout.chosen_folder && matches!(manager, Manager::Systemd { .. }) { format!("-{}", tag(&config.state_dir())) } else { String::new() };
        let names = roles.iter().map(|role| format!("ferrostack-{role}{suffix}")).collect();
        Ok(Daemons { probe: found, manager, names, layout: layout.clone(), program })
    }

    /// The daemons as services of the manager.
    pub fn services(&self, controller_user: Option<Owner>) -> Vec<Service> {
        let config = &self.layout.config;
        let common = |name: &str, description: &str, arguments: &[&str]| Service {
            name: name.into(),
            description: description.into(),
            argv: [self.program.display().to_string(), "serve".into()]
                .into_iter()
                .chain(arguments.iter().map(ToString::to_string))
                .chain(["--config".into(), self.layout.file.display().to_string()])
                .collect(),
            environment: BTreeMap::new(),
            user: None,
            capabilities: Vec::new(),
            sandbox: Sandbox::Node,
            writable: vec![config.state_dir()],
            after: vec!["network.target".into()],
            log: self.log(name),
        };
        if config.general.simulate {
            return vec![common(&self.names[0], "Ferrostack, simulated", &["--simulate"])];
        }
        let mut controller = common(&self.names[0], "Ferrostack: the APIs", &["--role", "controller"]);
        controller.user = controller_user.map(|owner| (USER.into(), owner));
        controller.sandbox = Sandbox::Controller;
        controller.writable = vec![config.controller_dir(), config.run_dir(), config.image_folder()];
        let mut node = common(&self.names[1], "Ferrostack: guests and switch", &["--role", "node"]);
        node.after.push(format!("{}.service", self.names[0]));
        vec![controller, node]
    }

    /// Where a daemon writes.
    pub fn log(&self, name: &str) -> PathBuf {
        self.layout.config.state_dir().join("log").join(format!("{name}.log"))
    }

    /// Puts this very program where the daemons start it from, so that it stays when the build folder goes. Returns whether it changed.
    pub fn install_program(&self) -> Result<bool, Failure> {
        let own = std::env::current_exe()?;
        if own == self.program {
            return Ok(false);
        }
        let same = match (std::fs::metadata(&own), std::fs::metadata(&self.program)) {
            (Ok(a), Ok(b)) => a.len() == b.len() && a.modified()? <= b.modified()?,
            _ => false,
        };
        if same {
            return Ok(false);
        }
        let beside = self.program.with_extension("new");
        if let Some(folder) = self.program.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::copy(&own, &beside)?;
        std::fs::rename(&beside, &self.program)?;
        Ok(true)
    }
}

/// The nearest folder above (or at) `path` that is there.
fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|p| RealMachine.exists(p)).map_or_else(|| PathBuf::from("/"), Path::to_path_buf)
}

/// Tells the units of clouds apart that are in different folders.
fn tag(path: &Path) -> String {
    let hash = path.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    format!("{:06x}", hash & 0xff_ffff)
}
