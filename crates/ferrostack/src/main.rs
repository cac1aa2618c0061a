//! OpenStack as one program.

mod cli;
mod client;
mod commands;
mod config;
mod console;
mod controller;
mod demo;
mod layout;
mod listeners;
mod logging;
mod node;
mod secrets;
mod serve;

use clap::{CommandFactory, Parser};
use cli::{Cli, Command, ConfigCommand, Db, IdentityCommand, Image};
use std::process::ExitCode;

/// An error that ends the program: one sentence for the operator.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(inner) = cause {
                // Many errors already say their cause.
                let inner_text = inner.to_string();
                if !text.contains(&inner_text) {
                    text = format!("{text}: {inner_text}");
                }
                cause = inner.source();
            }
            eprintln!("ferrostack: {text}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    match cli.command {
        // First, and without a thread: the supervisor blocks signals for itself.
        Command::Supervise { file } => host::supervisor::run(&file)?,
        Command::Up(up) => commands::up::run(&up)?,
        Command::Down(down) => commands::down::run(&down)?,
        Command::Status { common, json } => return commands::status::run(&common, json),
        Command::Doctor(doctor) => return commands::doctor::run(&doctor),
        Command::Serve(serve) => serve::run(&serve)?,
        Command::Db(Db::Check { common, json }) => return commands::check::run(&common, json),
        Command::Db(Db::Migrate(common)) => commands::check::migrate(&common)?,
        Command::Identity(IdentityCommand::RotateKeys(common)) => {
            let folder = layout::Layout::find(&common)?.config.fernet_keys();
            identity::tokens::keys::rotate(&folder, identity::Config::default().max_active_keys)?;
        }
        Command::Image(Image::BuildTiny { output, user, password, cache }) => commands::tiny::run(&output, &user, &password, cache)?,
        Command::Config(ConfigCommand::Sample) => print!("{}", config::Config::sample()),
        Command::Config(ConfigCommand::Show(common)) => {
            let mut config = layout::Layout::find(&common)?.config;
            if let Some((scheme, _)) = config.database.url.clone().split_once("://") {
                config.database.url = format!("{scheme}://…");
            }
            print!("{}", config.to_file());
        }
        Command::Completions { shell } => clap_complete::generate(shell, &mut Cli::command(), "ferrostack", &mut std::io::stdout()),
        Command::Version => println!("ferrostack {}", env!("CARGO_PKG_VERSION")),
    }
    Ok(ExitCode::SUCCESS)
}
