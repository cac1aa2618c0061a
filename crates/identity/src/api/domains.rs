//! `/v3/domains`.

use super::*;
use crate::model::schemas;
use crate::store::projects::{self, TagFilters};

pub(super) fn routes(routes: &mut Routes<Identity>) {
    routes.get("/v3/domains", list).post("/v3/domains", create);
    let one = "/v3/domains/{domain_id}";
    routes.get(one, show).patch(one, update).delete(one, delete);
}

fn list(s: &Identity, r: &Request) -> Result<Response> {
    check_query(r, &schemas::DOMAIN_QUERY)?;
    let target = domain_scope(r).map_or_else(Target::new, |domain| {
        Target::new().with("domain", json!({"id": domain}))
    });
    s.enforce(r, "identity:list_domains", &target)?;
    let mut hints = s.hints(r, &["name", "enabled"], true)?.equals("is_domain", Some("1"));
    if let Some(domain) = domain_scope(r) {
        hints = hints.equals("id", Some(domain));
    }
    let limit = hints.limit;
    hints.full_is_truncated = true;
    hints.limit = limit.or(Some(s.config.max_db_limit));
    let mut page = s.read(|tx| projects::list(tx, &hints, &TagFilters::default()))?;
    page.truncated &= limit.is_some();
    page.refs = page.refs.into_iter().map(projects::as_domain).collect();
    collection(r, "domains", "domains", page, limit)
}

fn create(s: &Identity, r: &Request) -> Result<Response> {
    let mut domain = checked(r, &schemas::DOMAIN_CREATE, "domain")?;
    s.enforce(r, "identity:create_domain", &Target::new())?;
    let domain = match domain.remove("explicit_domain_id") {
        Some(Value::String(id)) => {
            let plain = id.len() == 32 && id.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
            if !plain {
                return Err(Error::Invalid(
                    "Domain ID does not conform to required UUID format.".into(),
                ));
            }
            domain.insert("id".into(), id.into());
            domain
        }
        _ => with_new_id(domain),
    };
    let domain = normalized(&domain);
    let domain = s.write(|tx| s.create_domain(tx, domain.clone()))?;
    created(r, "domain", "domains", domain)
}

fn show(s: &Identity, r: &Request) -> Result<Response> {
    let id = r.param("domain_id");
    let domain = s.read(|tx| {
        let target = Target::new().maybe("domain", projects::get_domain(tx, id))?;
        s.enforce(r, "identity:get_domain", &target)?;
        projects::get_domain(tx, id)
    })?;
    ok(r, "domain", "domains", domain)
}

fn update(s: &Identity, r: &Request) -> Result<Response> {
    let changes = checked(r, &schemas::DOMAIN_UPDATE, "domain")?;
    let id = r.param("domain_id");
    let domain = s.write(|tx| {
        let domain = projects::get_domain(tx, id)?;
        s.enforce(r, "identity:update_domain", &Target::new().with("domain", domain))?;
        s.update_domain(tx, id, changes.clone())
    })?;
    ok(r, "domain", "domains", domain)
}

fn delete(s: &Identity, r: &Request) -> Result<Response> {
    let id = r.param("domain_id");
    s.write(|tx| {
        let domain = projects::get_domain(tx, id)?;
        s.enforce(r, "identity:delete_domain", &Target::new().with("domain", domain))?;
        s.delete_domain(tx, id)
    })?;
    no_content()
}
