//! Identity by itself: `cargo run -p identity --example alone -- FOLDER PORT PASSWORD`, for trying clients and Tempest's identity trees.

use api::server::{Mount, Mounts, serve};
use identity::bootstrap::CatalogService;
use identity::{Bootstrap, Config, Identity};
use std::path::PathBuf;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(folder), Some(port), Some(password)) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err("usage: alone FOLDER PORT PASSWORD".into());
    };
    let folder = PathBuf::from(folder);
    std::fs::create_dir_all(&folder)?;
    let db = match std::env::var("DATABASE_URL") {
        Ok(url) => database::Database::open(&url)?,
        Err(_) => database::Database::open(&folder.join("identity.db").display().to_string())?,
    };
    db.migrate(&[identity::MIGRATIONS])?;
    let mut config = Config {
        fernet_key_repository: folder.join("fernet-keys"),
        credential_key_repository: folder.join("credential-keys"),
        password_hash_rounds: 4,
        ..Config::default()
    };
    config.security_compliance.lockout_failure_attempts = Some(2);
    config.security_compliance.lockout_duration = 5;
    config.security_compliance.unique_last_password_count = 2;
    let identity = Identity::new(db, config, None)?;
    let url = format!("http://127.0.0.1:{port}/v3");
    identity.bootstrap(&Bootstrap {
        admin_user: "admin".into(),
        admin_password: password,
        admin_project: "admin".into(),
        region: "RegionOne".into(),
        services: vec![CatalogService {
            kind: "identity".into(),
            name: "keystone".into(),
            public_url: url.clone(),
            internal_url: url.clone(),
            admin_url: url,
        }],
    })?;
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let mounts = Mounts::new(vec![Mount {
        prefix: String::new(),
        service: identity.service(),
    }]);
    println!("serving");
    serve(listener, mounts, stopped).await;
    Ok(())
}
