//! Consoles: the serial log, the screen, and the tokens that open them.

use api::{Error, Method};
use node_protocol::queries::{Answer, Query, QueryError};
use rand::Rng;
use serde_json::{Value, json};

use super::server_power::has_host;
use crate::Compute;
use crate::call::{Call, NEWEST, Result, Table, ok};
use crate::model::encoding::{json_int, token_hash};
use crate::model::server::Server;
use crate::model::state::{self, invalid_state};
use crate::store::consoles::{self, ConsoleToken};

const ACTION: &str = "/servers/{id}/action";

pub(super) fn add(table: &mut Table) {
    table
        .action(ACTION, "os-getConsoleOutput", (1, NEWEST), output)
        .action(ACTION, "os-getVNCConsole", (1, 5), |c, call| {
            old(c, call, "os-getVNCConsole", "vnc")
        })
        .action(ACTION, "os-getSPICEConsole", (1, 5), |c, call| {
            old(c, call, "os-getSPICEConsole", "spice")
        })
        .action(ACTION, "os-getSerialConsole", (1, 5), |c, call| {
            old(c, call, "os-getSerialConsole", "serial")
        })
        .action(ACTION, "os-getRDPConsole", (1, 5), |_, _| {
            Err(Error::new(api::StatusCode::GONE, ""))
        })
        .between(
            Method::POST,
            "/servers/{server_id}/remote-consoles",
            (6, NEWEST),
            create,
        )
        .get("/os-console-auth-tokens/{id}", token);
}

fn output(c: &Compute, call: &Call) -> Result {
    let server = c.db.read(|tx| c.server(tx, call, "os_compute_api:os-console-output"))?;
    has_host(&server)?;
    let lines = json_int(&call.body["os-getConsoleOutput"]["length"]).and_then(|l| u64::try_from(l).ok());
    let server_id = uuid::Uuid::parse_str(&server.id).unwrap_or_default();
    let query = Query::ConsoleLog { server_id, lines };
    let text = match c.ask(server.host.as_deref().unwrap_or_default(), query) {
        Ok(Answer::ConsoleLog { output }) => output,
        Err(QueryError::NotFound) => return Err(Error::not_found("Guest does not have a console available.")),
        Err(QueryError::NotRunning) => return Err(Error::conflict(format!("Instance {} is not ready", server.id))),
        Err(error) => return Err(Error::conflict(error.to_string())),
        Ok(_) => return Err(Error::internal("a node answered another question than was asked")),
    };
    // Control characters cannot stand in JSON that old clients read; tabs and line ends stay.
    let text: String = text.chars().filter(|c| *c >= ' ' || matches!(c, '\t' | '\n')).collect();
    ok(json!({"output": text}))
}

fn old(c: &Compute, call: &Call, action: &str, protocol: &str) -> Result {
    c.allow_own(call, "os_compute_api:os-remote-consoles")?;
    let kind = call.body[action]["type"].as_str().unwrap_or_default().to_owned();
    let server = c.db.read(|tx| super::servers::lookup(tx, call, call.param("id")))?;
    let url = open(c, &server, protocol, &kind)?;
    ok(json!({"console": {"type": kind, "url": url}}))
}

fn create(c: &Compute, call: &Call) -> Result {
    let server =
        c.db.read(|tx| c.server(tx, call, "os_compute_api:os-remote-consoles"))?;
    let wanted = &call.body["remote_console"];
    let text = |key: &str| wanted[key].as_str().unwrap_or_default().to_owned();
    let (protocol, kind) = (text("protocol"), text("type"));
    if protocol == "rdp" {
        return Err(Error::bad_request("Unavailable console type rdp."));
    }
    let url = open(c, &server, &protocol, &kind)?;
    ok(json!({"remote_console": {"protocol": protocol, "type": kind, "url": url}}))
}

/// Makes a token for the console and the URL that uses it.
fn open(c: &Compute, server: &Server, protocol: &str, kind: &str) -> Result<String> {
    has_host(server)?;
    let method = format!("get_{protocol}_console");
    if matches!(server.vm_state.as_str(), state::DELETED | state::SOFT_DELETED)
        || server.task_state.as_deref() == Some("deleting")
    {
        return Err(invalid_state(&method, &server.id, "vm_state", Some(&server.vm_state)));
    }
    if !(protocol == "vnc" && kind == "novnc") {
        return Err(Error::bad_request(format!("Unavailable console type {kind}.")));
    }
    let server_id = uuid::Uuid::parse_str(&server.id).unwrap_or_default();
    let (host, port) = match c.ask(server.host.as_deref().unwrap_or_default(), Query::Vnc { server_id }) {
        Ok(Answer::Vnc { host, port }) => (host, port),
        Err(QueryError::NotFound | QueryError::NotRunning) => {
            return Err(Error::conflict(format!("Instance {} is not ready", server.id)));
        }
        Err(error) => return Err(Error::conflict(error.to_string())),
        Ok(_) => return Err(Error::internal("a node answered another question than was asked")),
    };
    let bytes: [u8; 16] = rand::rng().random();
    let token = uuid::Builder::from_random_bytes(bytes).into_uuid().to_string();
    let now = database::now();
    let row = ConsoleToken {
        token_hash: token_hash(&token),
        server_id: server.id.clone(),
        host,
        port: i64::from(port),
        console_type: kind.into(),
        access_path: None,
        expires_at: now + c.config.console_token_seconds * 1_000_000,
    };
    c.db.write(|tx| {
        consoles::expire(tx, now)?;
        row.insert(tx)
    })?;
    // The page may stand below a prefix, and so does what it connects to. As upstream's, the path has no slash before it.
    let prefix = c
        .config
        .novnc_url
        .splitn(4, '/')
        .nth(3)
        .map(|p| format!("{}%2F", p.replace('/', "%2F")))
        .unwrap_or_default();
    Ok(format!(
        "{}/vnc_auto.html?path={prefix}websockify%3Ftoken%3D{token}",
        c.config.novnc_url
    ))
}

fn token(c: &Compute, call: &Call) -> Result {
    if !call.at_least(31) {
        return Err(Error::bad_request(
            "The server could not comply with the request since it is either malformed or otherwise incorrect.",
        ));
    }
    c.allow_own(call, "os_compute_api:os-console-auth-tokens")?;
    let hash = token_hash(call.param("id"));
    let found = c.db.read(|tx| consoles::find(tx, &hash, database::now()))?;
    let found = found.ok_or_else(|| Error::not_found("Token not found"))?;
    let console: Value = json!({
        "instance_uuid": found.server_id, "host": found.host, "port": found.port, "internal_access_path": found.access_path,
    });
    ok(json!({"console": console}))
}

impl Compute {
    /// Which console a token opens; `None` when it is not known, has expired or was redeemed before: it opens one connection, once.
    ///
    /// # Errors
    /// The database's.
    pub fn redeem_console(&self, token: &str) -> Result<Option<ConsoleTarget>, Error> {
        let hash = token_hash(token);
        self.db.write(|tx| {
            let Some(found) = consoles::find(tx, &hash, database::now())? else {
                return Ok(None);
            };
            consoles::spend(tx, &hash)?;
            let server = crate::store::servers::find(tx, &found.server_id, false)?;
            let console_type = found.console_type;
            Ok(server.and_then(|s| {
                Some(ConsoleTarget {
                    server_id: s.id,
                    host: s.host?,
                    console_type,
                })
            }))
        })
    }
}

/// The console that a token opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleTarget {
    /// Whose console.
    pub server_id: String,
    /// On which node.
    pub host: String,
    /// `novnc`, `serial`.
    pub console_type: String,
}
