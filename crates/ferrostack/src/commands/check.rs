//! `ferrostack db`: the schema, and the proof that tables, processes and flows agree.

use crate::Failure;
use crate::cli::Common;
use crate::controller::MIGRATIONS;
use crate::layout::Layout;
use database::Database;
use std::process::ExitCode;

/// Brings the schema up to this program.
pub fn migrate(common: &Common) -> Result<(), Failure> {
    let config = Layout::find(common)?.config;
    Database::open(&config.database_url())?.migrate(MIGRATIONS)?;
    println!("The schema is this version's.");
    Ok(())
}

/// Prints what does not agree, a sentence each; the exit code says whether there is anything.
pub fn run(common: &Common, as_json: bool) -> Result<ExitCode, Failure> {
    let config = Layout::find(common)?.config;
    let db = Database::open(&config.database_url())?;
    let mut findings = db.check()?;
    findings.extend(db.read(consistency)?);
    if !config.general.simulate {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        findings.extend(runtime.block_on(crate::node::check(&config, &db))?);
    }
    if as_json {
        println!("{}", serde_json::to_string(&findings)?);
    } else if findings.is_empty() {
        println!("Tables, processes and flows agree.");
    } else {
        findings.iter().for_each(|f| println!("{f}"));
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What must hold between the tables of different services: each query finds what contradicts its sentence.
const RULES: &[(&str, &str)] = &[];

fn consistency(tx: &mut database::Tx<'_>) -> Result<Vec<String>, database::Error> {
    let mut findings = Vec::new();
    for (sentence, query) in RULES {
        for key in tx.column::<String>(query, &[])? {
            findings.push(sentence.replace("{}", &key));
        }
    }
    Ok(findings)
}
