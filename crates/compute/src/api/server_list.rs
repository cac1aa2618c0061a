//! Lists of servers: filters, sorting, paging.

use api::Error;
use database::{Direction, Value as Param, params};
use serde_json::{Value, json};

use crate::Compute;
use crate::call::{Call, Result, Table, ok};
use crate::model::encoding::{not_a_bool, parse_bool};
use crate::model::server::{HostStatusShown, view};
use crate::model::state;
use crate::store::servers::{List, column};

pub(super) fn add(table: &mut Table) {
    table
        .get("/servers", |c, call| list(c, call, false))
        .get("/servers/detail", |c, call| list(c, call, true));
}

/// Filters that name other tables, which upstream refuses.
const JOINED: &[&str] = &[
    "block_device_mapping",
    "services",
    "metadata",
    "system_metadata",
    "info_cache",
    "security_groups",
    "pci_devices",
];
/// Sort keys that are accepted for old clients and mean nothing.
const IGNORED_SORT: &[&str] = &[
    "architecture",
    "cell_name",
    "cleaned",
    "default_ephemeral_device",
    "default_swap_device",
    "deleted",
    "deleted_at",
    "disable_terminate",
    "ephemeral_gb",
    "ephemeral_key_uuid",
    "id",
    "key_data",
    "launched_on",
    "memory_mb",
    "os_type",
    "reservation_id",
    "root_gb",
    "shutdown_terminate",
    "user_data",
    "vcpus",
    "vm_mode",
];
const PAGING: &[&str] = &["sort_key", "sort_dir", "limit", "marker"];
/// Compared exactly; other texts are regular expressions.
const EXACT: &[&str] = &[
    "project_id",
    "tenant_id",
    "user_id",
    "image_ref",
    "image",
    "vm_state",
    "uuid",
    "host",
    "task_state",
    "node",
];
const NUMBERS: &[&str] = &["launch_index", "power_state", "progress"];

/// The filters of a caller that may not use all of them.
fn open_filters(call: &Call) -> Vec<&'static str> {
    let mut open = vec![
        "reservation_id",
        "name",
        "status",
        "image",
        "flavor",
        "ip",
        "changes-since",
        "all_tenants",
    ];
    let later: &[(u16, &[&'static str])] = &[
        (5, &["ip6"]),
        (26, &["tags", "tags-any", "not-tags", "not-tags-any"]),
        (66, &["changes-before"]),
        (73, &["locked"]),
        (
            83,
            &[
                "availability_zone",
                "config_drive",
                "key_name",
                "created_at",
                "launched_at",
                "terminated_at",
                "power_state",
                "task_state",
                "vm_state",
                "progress",
                "user_id",
            ],
        ),
        (90, &["hostname"]),
    ];
    for (since, names) in later {
        if call.at_least(*since) {
            open.extend_from_slice(names);
        }
    }
    open
}

fn list(c: &Compute, call: &Call, detailed: bool) -> Result {
    let kind = if detailed { "detail" } else { "index" };
    c.allow_own(call, &format!("os_compute_api:servers:{kind}"))?;
    let Some(mut wanted) = Wanted::read(c, call, kind)? else {
        return ok(json!({"servers": []}));
    };
    let (limit, marker) = call.paging()?;
    let sort = sort_keys(call)?;
    let no_marker = || Error::bad_request(format!("marker [{}] not found", marker.unwrap_or_default()));
    let collection = if detailed { "servers/detail" } else { "servers" };
    let (views, last) = c.db.read(|tx| {
        if let Some((version, pattern)) = wanted.address.take() {
            let project = wanted.project.as_deref();
            let ids = c
                .neighbours
                .ports
                .servers_with_address(tx, project, version, &pattern)?;
            wanted.list.one_of("s.id", &crate::store::texts(&ids));
        }
        if let Some(marker) = marker {
            // A marker must be a server the caller can see.
            super::servers::lookup_any(tx, call, marker, true).map_err(|_| no_marker())?;
        }
        let page = wanted.list.page(tx, &sort, limit, marker)?.ok_or_else(no_marker)?;
        let last = page.last().map(|s| s.id.clone());
        if !detailed {
            let views = page
                .iter()
                .map(|s| json!({"id": s.id, "name": s.name, "links": call.links("servers", &s.id)}));
            return Ok((views.collect::<Vec<Value>>(), last));
        }
        let shown = c.shown(call, call.project());
        let mut around = c.surroundings(tx, &page, shown.host_status != HostStatusShown::No)?;
        let views = page.iter().map(|s| {
            let around = around.remove(&s.id).unwrap_or_default();
            view(s, &around, &shown, &|c, id| call.links(c, id), &|c, id| {
                call.bookmark(c, id)
            })
        });
        Ok::<_, Error>((views.collect(), last))
    })?;
    let count = views.len();
    let mut body = json!({"servers": views});
    if let Some(links) = call.next_link(collection, count, last.as_deref())? {
        body["servers_links"] = links;
    }
    ok(body)
}

struct Wanted {
    list: List,
    project: Option<String>,
    /// An address filter, which Networking answers.
    address: Option<(u8, String)>,
}

impl Wanted {
    /// Reads the filters; `None` where none can match.
    fn read(c: &Compute, call: &Call, kind: &str) -> Result<Option<Wanted>> {
        let all_filters = c.permits(call, "os_compute_api:servers:allow_all_filters", call.project());
        let open = open_filters(call);
        let mut filters: Vec<(&str, &str)> = Vec::new();
        for (name, _) in &call.query {
            let known = if all_filters {
                !PAGING.contains(&name.as_str())
            } else {
                open.contains(&name.as_str())
            };
            if known && !filters.iter().any(|(n, _)| n == name) {
                filters.push((name, call.query(name).unwrap_or_default()));
            }
        }
        if let Some((name, _)) = filters.iter().find(|(n, _)| JOINED.contains(n) || n.starts_with('_')) {
            return Err(Error::bad_request(format!("Invalid filter field: {name}.")));
        }
        let mut wanted = Wanted {
            list: List::new(),
            project: None,
            address: None,
        };
        let has = |name: &str| filters.iter().any(|(n, _)| *n == name);
        let value = |name: &str| filters.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
        let mut only_deleted = false;
        if call.query("status").is_some() {
            let statuses: Vec<&str> = call.query_all("status").collect();
            let (vm_states, task_states) = state::states_of(&statuses);
            if vm_states.is_empty() {
                return if call.at_least(38) {
                    Err(Error::bad_request("Invalid status value"))
                } else {
                    Ok(None)
                };
            }
            if vm_states == [state::DELETED] {
                if !call.context().is_admin() {
                    return Err(Error::forbidden("Only administrators may list deleted instances"));
                }
                only_deleted = true;
            }
            wanted.list.one_of("s.vm_state", &crate::store::texts(&vm_states));
            if !task_states.contains(&None) {
                let tasks: Vec<&str> = task_states.into_iter().flatten().collect();
                wanted.list.one_of("s.task_state", &crate::store::texts(&tasks));
            }
        }
        let since = time(value("changes-since"), "changes-since")?;
        let before = time(value("changes-before"), "changes-before")?;
        if let (Some(since), Some(before)) = (since, before)
            && before < since
        {
            return Err(Error::bad_request(
                "The value of changes-since must be less than or equal to changes-before.",
            ));
        }
        let deleted = match value("deleted") {
            _ if only_deleted => Some(true),
            Some(text) => Some(parse_bool(text).unwrap_or(false)),
            None if since.is_some() || before.is_some() => None,
            None => Some(false),
        };
        match deleted {
            Some(true) => wanted.list.filter("s.deleted_at IS NOT NULL", &[]),
            Some(false) => wanted.list.filter("s.deleted_at IS NULL", &[]),
            None => &mut wanted.list,
        };
        if let Some(since) = since {
            wanted.list.filter("s.updated_at >= ?", &params![since]);
        }
        if let Some(before) = before {
            wanted.list.filter("s.updated_at <= ?", &params![before]);
        }
        let all_projects = match value("all_tenants") {
            None => false,
            Some("") => true,
            Some(text) => parse_bool(text)
                .ok_or_else(|| Error::bad_request(format!("Invalid input received: {}", not_a_bool(text))))?,
        };
        if all_projects {
            c.allow_own(call, &format!("os_compute_api:servers:{kind}:get_all_tenants"))?;
            wanted.project = value("tenant_id").or(value("project_id")).map(str::to_owned);
        } else {
            wanted.project = Some(call.project().to_owned());
        }
        if let Some(project) = &wanted.project {
            wanted.list.filter("s.project_id = ?", &params![project]);
        }
        if let Some(text) = value("locked") {
            let locked = parse_bool(text)
                .ok_or_else(|| Error::bad_request(format!("Invalid input received: {}", not_a_bool(text))))?;
            wanted.list.filter(
                if locked {
                    "s.locked_by IS NOT NULL"
                } else {
                    "s.locked_by IS NULL"
                },
                &[],
            );
        }
        if call.at_least(26) {
            for (name, any, not) in [
                ("tags", false, false),
                ("tags-any", true, false),
                ("not-tags", false, true),
                ("not-tags-any", true, true),
            ] {
                if let Some(text) = value(name) {
                    wanted.list.tags(&text.split(',').collect::<Vec<_>>(), any, not);
                }
            }
        }
        if has("ip") || has("ip6") {
            let (name, version) = if has("ip") { ("ip", 4) } else { ("ip6", 6) };
            wanted.address = value(name).map(|pattern| (version, pattern.to_owned()));
        }
        for (name, text) in &filters {
            wanted.plain(name, text)?;
        }
        Ok(Some(wanted))
    }

    /// Filters that compare a column.
    fn plain(&mut self, name: &str, text: &str) -> Result<()> {
        if matches!(name, "project_id" | "tenant_id" | "locked" | "status" | "deleted") {
            return Ok(());
        }
        if name == "soft_deleted" {
            if parse_bool(text) == Some(true) {
                self.list.filter("s.vm_state = ?", &params![state::SOFT_DELETED]);
            }
            return Ok(());
        }
        let Some(column) = column(name) else { return Ok(()) };
        match name {
            "flavor" => self.list.filter("s.flavor_id = ?", &params![text]),
            _ if EXACT.contains(&name) => self.list.filter(&format!("{column} = ?"), &params![text]),
            "config_drive" => {
                let wanted = parse_bool(text).unwrap_or(!text.is_empty());
                self.list.filter(
                    if wanted {
                        "s.config_drive <> ''"
                    } else {
                        "s.config_drive = ''"
                    },
                    &[],
                )
            }
            "auto_disk_config" => self
                .list
                .filter(&format!("{column} = ?"), &params![parse_bool(text).unwrap_or(false)]),
            _ if NUMBERS.contains(&name) => match text.parse::<i64>() {
                Ok(number) => self.list.filter(&format!("{column} = ?"), &params![number]),
                Err(_) => self.list.filter("1 = 0", &[]),
            },
            "created_at" | "launched_at" | "terminated_at" => match api::time::parse(text) {
                // Whole seconds, as clients see them.
                Some(at) => {
                    let from = at - at.rem_euclid(1_000_000);
                    self.list.filter(
                        &format!("{column} >= ? AND {column} < ?"),
                        &params![from, from + 1_000_000],
                    )
                }
                None => self.list.filter("1 = 0", &[]),
            },
            _ => self.list.filter(&format!("{column} REGEXP ?"), &[Param::from(text)]),
        };
        Ok(())
    }
}

fn time(text: Option<&str>, name: &str) -> Result<Option<i64>> {
    let Some(text) = text else { return Ok(None) };
    api::time::parse(text)
        .map(Some)
        .ok_or_else(|| Error::bad_request(format!("Invalid filter field: {name}.")))
}

/// `sort_key` and `sort_dir`, which pair up; without any, the newest come first.
fn sort_keys(call: &Call) -> Result<Vec<(&'static str, Direction)>> {
    let directions: Vec<Direction> = call
        .query_all("sort_dir")
        .map(|d| {
            if d.trim() == "asc" {
                Direction::Ascending
            } else {
                Direction::Descending
            }
        })
        .collect();
    let first = directions.first().copied().unwrap_or(Direction::Descending);
    let mut out = Vec::new();
    for (i, key) in call.query_all("sort_key").map(str::trim).enumerate() {
        if IGNORED_SORT.contains(&key) || (key == "locked" && !call.at_least(73)) {
            continue;
        }
        if matches!(key, "host" | "node") && !call.context().is_admin() {
            return Err(Error::forbidden(format!(
                "Only administrators can sort servers by {key}"
            )));
        }
        if let Some(column) = column(key)
            && !out.iter().any(|(c, _)| *c == column)
        {
            out.push((column, directions.get(i).copied().unwrap_or(first)));
        }
    }
    if out.is_empty() {
        out.push(("s.created_at", first));
    }
    Ok(out)
}
