//! What was used when: tenant usage, the audit log, and events that other services report.

use api::{Error, Response, StatusCode};
use database::params;
use serde_json::{Map, Value, json};

use crate::Compute;
use crate::call::{Call, Result, Table, ok};
use crate::model::server::Server;
use crate::store::{hosts, servers};

pub(super) fn add(table: &mut Table) {
    table
        .get("/os-simple-tenant-usage", list)
        .get("/os-simple-tenant-usage/{id}", show)
        .get("/os-instance_usage_audit_log", audit)
        .get("/os-instance_usage_audit_log/{id}", audit_at)
        .post("/os-server-external-events", events);
}

struct Period {
    start: i64,
    stop: i64,
    detailed: bool,
}

impl Period {
    fn read(call: &Call) -> Result<Period> {
        let now = database::now();
        let time = |name: &str| -> Result<i64> {
            let Some(text) = call.query_all(name).next() else {
                return Ok(now);
            };
            let bad = || Error::bad_request("Invalid datetime string: Datetime is in invalid format");
            // Three spellings, all with a time of day and without a zone.
            let shape = text.len() >= 19
                && !text.ends_with('Z')
                && text.is_ascii()
                && matches!(text.as_bytes()[10], b'T' | b' ');
            let plain = shape
                && !text[19..].contains(['+', '-'])
                && (text.as_bytes()[10] == b'T' || text[19..].starts_with('.'));
            api::time::parse(text).filter(|_| plain).ok_or_else(bad)
        };
        let (start, stop) = (time("start")?, time("end")?);
        if start >= stop {
            return Err(Error::bad_request(
                "Invalid start time. The start time cannot occur after the end time.",
            ));
        }
        let detailed = call.query_all("detailed").next() == Some("1");
        Ok(Period {
            start,
            stop: stop.min(now),
            detailed,
        })
    }

    fn hours(&self, server: &Server) -> f64 {
        let Some(launched) = server.launched_at else { return 0.0 };
        let ended = server.terminated_at.filter(|_| server.deleted_at.is_some());
        if ended.is_some_and(|e| e < self.start) || launched > self.stop {
            return 0.0;
        }
        let stop = ended.map_or(self.stop, |e| e.min(self.stop));
        (stop - launched.max(self.start)) as f64 / 3_600_000_000.0
    }
}

/// Usage by project, and the ids of the servers it comes from, oldest first.
fn usages(
    c: &Compute,
    call: &Call,
    period: &Period,
    project: Option<&str>,
    detailed: bool,
) -> Result<(Vec<Value>, Vec<String>)> {
    let (limit, marker) = if call.at_least(40) {
        call.paging()?
    } else {
        (crate::call::MAX_LIMIT, None)
    };
    let list = c.db.read(|tx| {
        let mut sql = "WHERE launched_at <= ?1 AND (deleted_at IS NULL OR terminated_at > ?2)".to_owned();
        let mut values = params![period.stop, period.start].to_vec();
        if let Some(project) = project {
            values.push(project.into());
            sql.push_str(" AND project_id = ?3");
        }
        if let Some(marker) = marker {
            let server = servers::find(tx, marker, true)?;
            let server = server.ok_or_else(|| Error::bad_request(format!("Marker {marker} could not be found.")))?;
            values.push(server.number.into());
            sql.push_str(&format!(" AND number > ?{}", values.len()));
        }
        sql.push_str(&format!(" ORDER BY number LIMIT {limit}"));
        Ok::<_, Error>(Server::select(tx, &sql, &values)?)
    })?;
    let now = database::now();
    let mut order: Vec<String> = Vec::new();
    let mut sums: Vec<(Vec<Value>, [f64; 4])> = Vec::new();
    for server in &list {
        let at = order.iter().position(|p| *p == server.project_id).unwrap_or_else(|| {
            order.push(server.project_id.clone());
            sums.push((Vec::new(), [0.0; 4]));
            order.len() - 1
        });
        let hours = period.hours(server);
        let disk = server.root_gb + server.flavor["ephemeral_gb"].as_i64().unwrap_or(0);
        let launched = server.launched_at.unwrap_or(now);
        let ended = server.terminated_at.filter(|_| server.deleted_at.is_some());
        let (lines, sum) = &mut sums[at];
        for (i, amount) in [disk, server.vcpus, server.memory_mb, 1].into_iter().enumerate() {
            sum[i] += amount as f64 * hours;
        }
        lines.push(json!({
            "hours": hours, "flavor": server.flavor["name"], "instance_id": server.id, "name": server.name,
            "tenant_id": server.project_id, "memory_mb": server.memory_mb, "local_gb": disk, "vcpus": server.vcpus,
            "started_at": api::time::naive_micros(launched), "ended_at": ended.map(api::time::naive_micros),
            "state": if ended.is_some() { "terminated" } else { server.vm_state.as_str() },
            "uptime": (ended.unwrap_or(now) - launched) / 1_000_000,
        }));
    }
    let views = order.into_iter().zip(sums).map(|(project, (lines, sum))| {
        let mut view = json!({
            "tenant_id": project, "total_local_gb_usage": sum[0], "total_vcpus_usage": sum[1], "total_memory_mb_usage": sum[2],
            "total_hours": sum[3], "start": api::time::naive_micros(period.start), "stop": api::time::naive_micros(period.stop),
        });
        if detailed {
            view["server_usages"] = Value::Array(lines);
        }
        view
    });
    Ok((views.collect(), list.into_iter().map(|s| s.id).collect()))
}

fn list(c: &Compute, call: &Call) -> Result {
    c.allow_own(call, "os_compute_api:os-simple-tenant-usage:list")?;
    let period = Period::read(call)?;
    let (usages, ids) = usages(c, call, &period, None, period.detailed)?;
    let mut body = json!({"tenant_usages": usages});
    if call.at_least(40)
        && let Some(links) = call.next_link("os-simple-tenant-usage", ids.len(), ids.last().map(String::as_str))?
    {
        body["tenant_usages_links"] = links;
    }
    ok(body)
}

fn show(c: &Compute, call: &Call) -> Result {
    let project = call.param("id");
    c.allow(call, "os_compute_api:os-simple-tenant-usage:show", project, None)?;
    let period = Period::read(call)?;
    let (usages, ids) = usages(c, call, &period, Some(project), true)?;
    let mut body = json!({"tenant_usage": usages.into_iter().next().unwrap_or_else(|| json!({}))});
    if call.at_least(40) {
        let collection = format!("os-simple-tenant-usage/{project}");
        if let Some(links) = call.next_link(&collection, ids.len(), ids.last().map(String::as_str))? {
            body["tenant_usage_links"] = links;
        }
    }
    ok(body)
}

/// The log of the last whole month before `before`; nothing writes audits, as upstream where they are not switched on.
fn audit_log(c: &Compute, before: i64) -> Result<Value> {
    let end = month_start(&api::time::iso8601_z(before), 0);
    let begin = month_start(&api::time::iso8601_z(before), -1);
    let services = c.db.read(hosts::services)?;
    let mut waiting: Vec<&str> = Vec::new();
    for service in services.iter().filter(|s| s.binary == hosts::NODE_SERVICE) {
        waiting.push(&service.host);
    }
    let done = if waiting.is_empty() {
        "ALL".to_owned()
    } else {
        format!("0 of {}", waiting.len())
    };
    Ok(json!({
        "period_beginning": begin, "period_ending": end, "num_hosts": waiting.len(), "num_hosts_done": 0,
        "num_hosts_running": 0, "num_hosts_not_run": waiting.len(), "hosts_not_run": waiting, "total_instances": 0,
        "total_errors": 0, "overall_status": format!("{done} hosts done. 0 errors."), "log": {},
    }))
}

/// The first moment of the month of an ISO time, so many months off.
fn month_start(iso: &str, off: i64) -> String {
    let number = |range: std::ops::Range<usize>| iso.get(range).and_then(|t| t.parse::<i64>().ok()).unwrap_or(1);
    let months = number(0..4) * 12 + number(5..7) - 1 + off;
    format!(
        "{:04}-{:02}-01 00:00:00",
        months.div_euclid(12),
        months.rem_euclid(12) + 1
    )
}

fn audit(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:os-instance-usage-audit-log:list")?;
    ok(json!({"instance_usage_audit_logs": audit_log(c, database::now())?}))
}

fn audit_at(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:os-instance-usage-audit-log:show")?;
    let text = call.param("id");
    let shape = text.len() >= 19 && text.as_bytes().get(10) == Some(&b' ');
    let at = api::time::parse(text).filter(|_| shape);
    let at = at.ok_or_else(|| Error::bad_request(format!("Invalid timestamp for date {text}")))?;
    ok(json!({"instance_usage_audit_log": audit_log(c, at)?}))
}

fn events(c: &Compute, call: &Call) -> Result {
    const NEED_TAG: &[&str] = &["volume-extended", "power-update", "accelerator-request-bound"];
    c.allow_bare(call, "os_compute_api:os-server-external-events:create")?;
    let mut partial = false;
    let wanted = call.body["events"].as_array().cloned().unwrap_or_default();
    let answers = c.db.read(|tx| {
        wanted
            .into_iter()
            .map(|event| {
                let mut event: Map<String, Value> = event.as_object().cloned().unwrap_or_default();
                let id = event.get("server_uuid").and_then(Value::as_str).unwrap_or_default();
                let name = event.get("name").and_then(Value::as_str).unwrap_or_default();
                let needs_tag = NEED_TAG.contains(&name) && event.get("tag").is_none_or(Value::is_null);
                let (status, code) = match servers::find(tx, id, false)? {
                    None => ("failed", 404),
                    Some(_) if needs_tag => ("failed", 400),
                    Some(server) if server.host.is_some() => ("completed", 200),
                    Some(_) => ("failed", 422),
                };
                partial |= code != 200;
                event.insert("status".into(), json!(status));
                event.insert("code".into(), json!(code));
                Ok(Value::Object(event))
            })
            .collect::<Result<Vec<Value>>>()
    })?;
    let status = if partial {
        StatusCode::MULTI_STATUS
    } else {
        StatusCode::OK
    };
    Ok(Response::json(status, &json!({"events": answers})))
}
