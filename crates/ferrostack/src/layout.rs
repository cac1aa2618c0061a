//! Which configuration holds for a command: file, environment, flags, in this order.

use crate::cli::{Common, Shape};
use crate::config::{Config, ConfigError};
use std::path::{Path, PathBuf};

/// A configuration and where it is kept.
#[derive(Clone, Debug)]
pub struct Layout {
    /// As it holds.
    pub config: Config,
    /// The file that `up` keeps it in and daemons read.
    pub file: PathBuf,
    /// Whether the operator chose the state folder; then credentials are kept in it as well.
    pub chosen_folder: bool,
}

/// Where the cloud is kept when nobody says: the system's place for root, the user's own otherwise.
fn default_state_dir() -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return PathBuf::from("/var/lib/ferrostack");
    }
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from);
    std::env::var_os("XDG_STATE_HOME").map_or_else(|| home.join(".local/state"), PathBuf::from).join("ferrostack")
}

impl Layout {
    /// Finds the configuration of the cloud that `common` means.
    pub fn find(common: &Common) -> Result<Layout, ConfigError> {
        let chosen = common.state_dir.as_ref().map(|d| std::path::absolute(d).unwrap_or_else(|_| d.clone()));
        let state_dir = chosen.clone().unwrap_or_else(default_state_dir);
        let system = Path::new("/etc/ferrostack/ferrostack.toml");
        let file = match &chosen {
            None if nix::unistd::geteuid().is_root() => system.to_path_buf(),
            _ => state_dir.join("etc/ferrostack.toml"),
        };
        let fallback = if file.exists() || chosen.is_some() { file.as_path() } else { system };
        let mut config = Config::load(common.config.as_deref(), fallback)?;
        if chosen.is_some() || config.general.state_dir == Config::default().general.state_dir {
            config.general.state_dir = state_dir.display().to_string();
        }
        Ok(Layout { config, file, chosen_folder: chosen.is_some() })
    }

    /// Puts the flags over the rest.
    pub fn with(mut self, shape: &Shape) -> Layout {
        let config = &mut self.config;
        if shape.simulate {
            config.general.simulate = true;
        }
        if let Some(port) = shape.api_port {
            config.api.single_port = port;
        }
        if let Some(listen) = &shape.listen {
            config.api.listen.clone_from(listen);
        }
        if let Some(host) = &shape.public_host {
            config.api.public_host.clone_from(host);
        }
        if let Some(url) = &shape.database {
            config.database.url.clone_from(url);
        }
        self
    }

    /// The folder of `keystonerc_*`, and the `clouds.yaml` that gets the entries.
    pub fn credentials(&self) -> (PathBuf, PathBuf) {
        if self.chosen_folder {
            let folder = self.config.state_dir();
            return (folder.clone(), folder.join("clouds.yaml"));
        }
        let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
        (home.clone(), home.join(".config/openstack/clouds.yaml"))
    }
}
