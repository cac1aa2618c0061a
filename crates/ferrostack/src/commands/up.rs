//! `ferrostack up`: from whatever the machine is to a cloud that answers. Every step looks first whether it is done.

use super::services::{Daemons, USER};
use crate::cli::Up;
use crate::client::{self, Client};
use crate::config::Config;
use crate::demo::{self, DemoImage};
use crate::layout::Layout;
use crate::listeners;
use crate::secrets;
use crate::Failure;
use host::RealMachine;
use host::account::{self, Owner};
use host::credentials::{self, Credentials};
use host::install::{self, Consent};
use host::manifest::{Item, Manifest};
use indicatif::{ProgressBar, ProgressStyle};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the services may take until they answer.
const PATIENCE: Duration = Duration::from_secs(120);
/// The entries in `clouds.yaml`.
pub const CLOUD_NAMES: [&str; 2] = ["ferrostack", "ferrostack-demo"];

/// What is told while a person waits.
pub struct Steps {
    bar: ProgressBar,
    /// Whether anything was done that had not been done before.
    pub changed: bool,
}

impl Steps {
    /// On a terminal a line that moves; elsewhere a line for each step that does something.
    pub fn new() -> Steps {
        let bar = ProgressBar::new_spinner();
        bar.set_style(ProgressStyle::with_template("{spinner} {msg} {elapsed}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
        Steps { bar, changed: false }
    }

    /// Something begins that may take a while.
    pub fn doing(&self, text: &str) {
        self.bar.set_message(text.to_string());
        self.bar.tick();
    }

    /// Something was changed.
    pub fn did(&mut self, text: &str) {
        self.changed = true;
        self.bar.suspend(|| println!("  {text}"));
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// Runs the command.
pub fn run(up: &Up) -> Result<(), Failure> {
    let mut layout = Layout::find(&up.common)?.with(&up.shape);
    if up.no_demo {
        layout.config.general.demo = false;
    }
    let root = nix::unistd::geteuid().is_root();
    if !root && !layout.config.general.simulate {
        return Err("guests and switches take root: run it with sudo, or with --simulate as it is".into());
    }
    let config = &mut layout.config;
    if config.general.demo && !config.general.simulate && config.node.bridge_addresses.is_empty() {
        config.node.bridge_addresses = vec!["br-ex=172.24.4.1/24".into()];
    }
    let mut steps = Steps::new();
    let daemons = Daemons::find(&layout)?;
    packages(&daemons, up.yes, &mut steps)?;
    check_ports(&daemons, &layout)?;
    let owner = prepare(&layout, &daemons, &mut steps)?;
    start(&layout, &daemons, owner, &mut steps)?;
    let password = secrets::password(&layout.config.state_dir(), "admin")?;
    let admin = wait_until_it_answers(&layout.config, &daemons, &password, &steps)?;
    let demo_password = secrets::password(&layout.config.state_dir(), "demo")?;
    write_credentials(&layout, &password, &demo_password, &mut steps)?;
    content(&layout, &admin, &demo_password, up.demo_image.as_deref(), &mut steps)?;
    steps.end();
    say_how_to_go_on(&layout, steps.changed);
    Ok(())
}

fn packages(daemons: &Daemons, yes: bool, steps: &mut Steps) -> Result<(), Failure> {
    if let Some(plan) = install::plan(&daemons.probe)? {
        let consent = if yes { Consent::Given } else { Consent::Ask };
        install::install(&RealMachine, &plan, consent, &mut |text| steps.did(text))?;
    }
    Ok(())
}

fn check_ports(daemons: &Daemons, layout: &Layout) -> Result<(), Failure> {
    let mut running = false;
    for name in &daemons.names {
        running |= matches!(daemons.manager.status(&RealMachine, name), Ok(host::service::Status::Running { .. }));
    }
    if running {
        return Ok(());
    }
    if let Some(occupied) = daemons.probe.occupied.first() {
        let who = occupied.process.as_ref().map_or_else(|| "another program".into(), |(pid, name)| format!("{name} (process {pid})"));
        let how = if layout.config.api.single_port != 0 { "choose another with --api-port" } else { "stop it, or put all services under one free port with --api-port" };
        return Err(format!("port {} is taken by {who}: {how}", occupied.port).into());
    }
    Ok(())
}

/// Folders, user, program, configuration file, and the list of all that for `down --purge`.
fn prepare(layout: &Layout, daemons: &Daemons, steps: &mut Steps) -> Result<Option<Owner>, Failure> {
    let config = &layout.config;
    let state = config.state_dir();
    let fresh = !state.exists();
    account::ensure_folder(&state, 0o755, None)?;
    if fresh {
        steps.did(&format!("keeping everything in {}", state.display()));
    }
    let mut manifest = Manifest::open(&state.join("manifest.json"))?;
    manifest.add([Item::Folder { path: state.clone() }])?;
    let mut owner = None;
    if nix::unistd::geteuid().is_root() && !config.general.simulate {
        reachable(&state)?;
        let (found, new) = account::ensure_user(&RealMachine, USER, &state)?;
        if new {
            manifest.add([Item::User { name: USER.into() }])?;
            steps.did(&format!("made the system user {USER}"));
        }
        owner = Some(found);
    }
    account::ensure_folder(&config.controller_dir(), 0o700, owner)?;
    account::ensure_folder(&config.image_folder(), 0o700, owner)?;
    account::ensure_folder(&config.node_dir(), 0o711, None)?;
    account::ensure_folder(&config.run_dir(), 0o755, owner)?;
    account::ensure_folder(&state.join("log"), 0o755, None)?;
    if let Some(folder) = layout.file.parent() {
        account::ensure_folder(folder, 0o755, None)?;
    }
    if !layout.file.starts_with(&state) {
        manifest.add([Item::File { path: layout.file.clone() }])?;
    }
    manifest.add(daemons.names.iter().map(|name| Item::Service { name: name.clone() }))?;
    if daemons.install_program()? {
        steps.changed = true;
    }
    let before: Option<Config> = std::fs::read_to_string(&layout.file).ok().and_then(|text| toml::from_str(&text).ok());
    if before.as_ref() != Some(config) {
        // The database's URL may hold a password.
        let group = owner.map(|o| Owner { uid: 0, gid: o.gid });
        host::write_file(&layout.file, config.to_file().as_bytes(), 0o640, group)?;
        steps.changed = true;
    }
    // The controller makes the cloud's first administrator with this.
    let admin = secrets::password(&state, "admin")?;
    let copy = config.controller_dir().join("admin-password");
    if std::fs::read_to_string(&copy).ok().as_deref() != Some(&admin) {
        host::write_file(&copy, admin.as_bytes(), 0o600, owner)?;
    }
    Ok(owner)
}

/// The controller's user must be able to pass through the folders above the state.
fn reachable(state: &Path) -> Result<(), Failure> {
    for folder in state.ancestors().skip(1) {
        if let Ok(meta) = std::fs::metadata(folder)
            && meta.permissions().mode() & 0o001 == 0
        {
            let shown = folder.display();
            return Err(format!("the controller runs as the user {USER}, who cannot pass through {shown}: choose another --state-dir, or allow it with 'chmod o+x {shown}'").into());
        }
    }
    Ok(())
}

fn start(layout: &Layout, daemons: &Daemons, owner: Option<Owner>, steps: &mut Steps) -> Result<(), Failure> {
    for service in daemons.services(owner) {
        steps.doing(&format!("starting {}", service.name));
        if daemons.manager.start(&RealMachine, &service)? {
            steps.did(&format!("started {} ({})", service.name, daemons.manager.log_hint(&service)));
        }
    }
    let _ = layout;
    Ok(())
}

fn wait_until_it_answers(config: &Config, daemons: &Daemons, password: &str, steps: &Steps) -> Result<Client, Failure> {
    let end = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(5);
    let mut wait = |what: String| -> Result<(), Failure> {
        for name in &daemons.names {
            if let Ok(host::service::Status::Failed(why)) = daemons.manager.status(&RealMachine, name) {
                return Err(format!("{name} does not stay up: {why}\n{}", last_words(&daemons.log(name))).into());
            }
        }
        if Instant::now() > end {
            let logs: String = daemons.names.iter().map(|n| last_words(&daemons.log(n))).collect();
            return Err(format!("{what} within {} s\n{logs}", PATIENCE.as_secs()).into());
        }
        std::thread::sleep(pause);
        pause = (pause * 3 / 2).min(Duration::from_millis(500));
        Ok(())
    };
    for (service, _, _) in listeners::SERVICES {
        steps.doing(&format!("waiting for {service}"));
        let url = format!("{}/", listeners::base_url(&config.api, service));
        while !matches!(client::ping(&url), Ok(status) if status < 500) {
            wait(format!("{service} did not answer at {url}"))?;
        }
    }
    steps.doing("signing in");
    let api = config.api.clone();
    let base = move |service: &str| listeners::base_url(&api, service);
    let admin = loop {
        match Client::sign_in(base.clone(), "admin", password, "admin") {
            Ok(client) => break client,
            Err(error) => wait(format!("the administrator could not sign in ({error})"))?,
        }
    };
    steps.doing("waiting for the node");
    loop {
        let all = admin.get("compute", "/v2.1/os-services?binary=nova-compute")?;
        let up = |s: &serde_json::Value| s["state"] == "up";
        if all["services"].as_array().is_some_and(|s| s.iter().any(up)) {
            return Ok(admin);
        }
        wait("no node came up".into())?;
    }
}

/// The end of a log, for an error.
fn last_words(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(10).collect();
    lines.into_iter().rev().map(|l| format!("  {l}\n")).collect()
}

fn write_credentials(layout: &Layout, admin: &str, demo: &str, steps: &mut Steps) -> Result<(), Failure> {
    let config = &layout.config;
    let of = |user: &str, password: &str| Credentials {
        auth_url: format!("{}/v3", listeners::base_url(&config.api, "identity")),
        user: user.into(),
        password: password.into(),
        project: user.into(),
        domain: "Default".into(),
        region: config.general.region.clone(),
        ca_file: None,
    };
    let (folder, clouds) = layout.credentials();
    let owner = account::invoking_user().filter(|_| !layout.chosen_folder);
    let mut manifest = Manifest::open(&config.state_dir().join("manifest.json"))?;
    let mut entries = vec![(CLOUD_NAMES[0], "admin", of("admin", admin))];
    if config.general.demo {
        entries.push((CLOUD_NAMES[1], "demo", of("demo", demo)));
    }
    for (_, name, credentials) in &entries {
        let path = folder.join(format!("keystonerc_{name}"));
        if std::fs::read_to_string(&path).ok().as_deref() == Some(&credentials::rc_file(name, credentials)) {
            continue;
        }
        manifest.add([Item::File { path: path.clone() }])?;
        credentials::write_rc_file(&folder, name, credentials, owner)?;
        steps.did(&format!("wrote {}", path.display()));
    }
    manifest.add([Item::Clouds { path: clouds.clone(), names: entries.iter().map(|(n, _, _)| (*n).into()).collect() }])?;
    if let Some(folder) = clouds.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let named: Vec<(&str, &Credentials)> = entries.iter().map(|(n, _, c)| (*n, c)).collect();
    credentials::merge_clouds(&clouds, &named, owner)?;
    Ok(())
}

fn content(layout: &Layout, admin: &Client, demo_password: &str, given: Option<&Path>, steps: &mut Steps) -> Result<(), Failure> {
    let config = &layout.config;
    let done = config.state_dir().join("content-made");
    let wanted = if config.general.demo { "demo" } else { "flavors" };
    if std::fs::read_to_string(&done).is_ok_and(|made| made == wanted) {
        return Ok(());
    }
    steps.doing("making flavors");
    demo::flavors(admin)?;
    if config.general.demo {
        steps.doing("making the demo project");
        let project = demo::project(admin, demo_password)?;
        demo::networks(admin, &project)?;
        let image = demo_image(config, given, steps)?;
        steps.doing("uploading the demo image");
        demo::image(admin, &image.as_deref().map_or(DemoImage::Blank, DemoImage::Qcow2))?;
    }
    host::write_file(&done, wanted.as_bytes(), 0o644, None)?;
    steps.did(if config.general.demo { "made flavors, the demo project, its networks and the image 'tiny'" } else { "made the flavors" });
    Ok(())
}

fn demo_image(config: &Config, given: Option<&Path>, steps: &Steps) -> Result<Option<PathBuf>, Failure> {
    if config.general.simulate {
        return Ok(given.map(Path::to_path_buf));
    }
    if let Some(given) = given {
        return Ok(Some(given.to_path_buf()));
    }
    let options = disk_image::tiny::Options::new(config.state_dir().join("tiny"));
    let built = disk_image::tiny::build_tiny(&options, &mut |p| steps.doing(&super::tiny::text(p)))?;
    Ok(Some(built))
}

fn say_how_to_go_on(layout: &Layout, changed: bool) {
    let config = &layout.config;
    let (folder, _) = layout.credentials();
    if !changed {
        println!("The cloud is up already; nothing was changed.");
        return;
    }
    println!("The cloud is up.\n");
    println!("  . {}/keystonerc_admin        be its administrator", folder.display());
    if config.general.demo {
        println!("  . {}/keystonerc_demo         be a user of the project demo", folder.display());
        println!("  openstack server create --flavor m1.tiny --image tiny --network private --wait first");
    }
    println!("  Identity is at {}/v3", listeners::base_url(&config.api, "identity"));
}
