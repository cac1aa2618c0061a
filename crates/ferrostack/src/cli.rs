//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// OpenStack as one program.
#[derive(Debug, Parser)]
#[command(name = "ferrostack", version, about = "OpenStack as one program: APIs, guests and network in one binary", arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring up the cloud: install what is missing, start, wait until it answers, say how to go on
    Up(Up),
    /// Stop the cloud; guests go on unless it is purged
    Down(Down),
    /// Say what runs and how it is
    Status {
        #[command(flatten)]
        #[allow(missing_docs)]
        common: Common,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Say what is missing or wrong, and how to mend it
    Doctor(Doctor),
    /// Run a role in the foreground, for units and containers
    Serve(Serve),
    /// Look at the database
    #[command(subcommand)]
    Db(Db),
    /// Work on users' and tokens' secrets
    #[command(subcommand)]
    Identity(IdentityCommand),
    /// Work on images
    #[command(subcommand)]
    Image(Image),
    /// Work on the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a script that completes this command line in a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the version
    Version,
    /// Restart a process when it ends (what `up` uses where there is no systemd)
    #[command(hide = true)]
    Supervise {
        /// The file that tells what to run
        file: PathBuf,
    },
}

/// What every command that touches a cloud takes.
#[derive(Args, Clone, Debug, Default)]
pub struct Common {
    /// The configuration file [default: etc/ferrostack.toml in the state folder, else /etc/ferrostack/ferrostack.toml]
    #[arg(long, env = "FERROSTACK_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Keep everything, the credential files included, in this folder
    #[arg(long, env = "FERROSTACK_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// Options that decide what kind of cloud it is.
#[derive(Args, Clone, Debug, Default)]
pub struct Shape {
    /// Simulate guests and network: the complete API as an ordinary user, without any package
    #[arg(long)]
    pub simulate: bool,
    /// Put all services under this one port, with the paths /identity, /image, /compute, /placement and /network
    #[arg(long, value_name = "PORT")]
    pub api_port: Option<u16>,
    /// The address to listen on
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// The name or address under which clients reach this machine
    #[arg(long, value_name = "HOST")]
    pub public_host: Option<String>,
    /// `sqlite:PATH` or `postgresql://…`
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,
}

/// Options of `up`.
#[derive(Args, Clone, Debug)]
pub struct Up {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub shape: Shape,
    /// Install what is missing without asking
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// Leave out the demo project, user, networks and image
    #[arg(long)]
    pub no_demo: bool,
    /// Use this disk image as the demo image instead of building one
    #[arg(long, value_name = "QCOW2")]
    pub demo_image: Option<PathBuf>,
}

/// Options of `down`.
#[derive(Args, Clone, Debug)]
pub struct Down {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
    /// Remove every trace: processes, guests, bridges, taps, namespaces, files
    #[arg(long)]
    pub purge: bool,
    /// Do not ask
    #[arg(long, short = 'y')]
    pub yes: bool,
}

/// Options of `doctor`.
#[derive(Args, Clone, Debug)]
pub struct Doctor {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// The APIs
    Controller,
    /// Guests and switch of this machine
    Node,
}

/// Options of `serve`.
#[derive(Args, Clone, Debug)]
pub struct Serve {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub shape: Shape,
    /// The role; with --simulate one process has both
    #[arg(long, value_enum, required_unless_present = "simulate")]
    pub role: Option<Role>,
}

/// Commands on the database.
#[derive(Debug, Subcommand)]
pub enum Db {
    /// Prove that tables, processes and flows agree
    Check {
        #[command(flatten)]
        #[allow(missing_docs)]
        common: Common,
        /// Print the findings as JSON
        #[arg(long)]
        json: bool,
    },
    /// Bring the schema up to this version of the program
    Migrate(Common),
}

/// Commands on Identity.
#[derive(Debug, Subcommand)]
pub enum IdentityCommand {
    /// Sign new tokens with a new key; those of the key before stay valid, a running controller need not restart
    RotateKeys(Common),
}

/// Commands on images.
#[derive(Debug, Subcommand)]
pub enum Image {
    /// Build a small bootable guest from distribution packages
    BuildTiny {
        /// Where the qcow2 goes
        #[arg(default_value = "tiny.qcow2")]
        output: PathBuf,
        /// The login of the guest
        #[arg(long, default_value = "cirros")]
        user: String,
        /// Its password
        #[arg(long, default_value = "gocubsgo")]
        password: String,
        /// Where downloaded packages are kept [default: a folder beside the output]
        #[arg(long, value_name = "DIR")]
        cache: Option<PathBuf>,
    },
}

/// Commands on the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print a file with every key, its description and its default
    Sample,
    /// Print the configuration as it holds, secrets left out
    Show(Common),
}
