//! What a cloud begins with, made by the same code as the API's.

use crate::store::assignments::{Actor, Target};
use crate::store::catalog::{ENDPOINTS, REGIONS, SERVICES};
use crate::store::{Ref, new_id, projects, roles, text, users};
use crate::{Error, Identity, Result};
use database::{Tx, params};
use serde_json::{Value, json};

/// A service of the catalog with its URLs (which may have `$(project_id)s` in them).
#[derive(Clone, Debug)]
pub struct CatalogService {
    /// The service type: `compute`.
    pub kind: String,
    /// Its name: `nova`.
    pub name: String,
    /// For everybody.
    pub public_url: String,
    /// For the services themselves.
    pub internal_url: String,
    /// For administrators.
    pub admin_url: String,
}

/// What to begin with. Where the administrator is there already, only the catalog's URLs are brought up to date.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// The administrator's name.
    pub admin_user: String,
    /// The administrator's password.
    pub admin_password: String,
    /// The administrator's project.
    pub admin_project: String,
    /// The region of all endpoints.
    pub region: String,
    /// The services.
    pub services: Vec<CatalogService>,
}

/// What was made or found.
#[derive(Clone, Debug)]
pub struct Bootstrapped {
    /// The administrator.
    pub admin_user_id: String,
    /// Its project.
    pub admin_project_id: String,
    /// Whether anything had to be changed.
    pub changed: bool,
}

fn object(value: Value) -> Ref {
    value.as_object().cloned().unwrap_or_default()
}

impl Identity {
    /// Makes the default domain, the administrator with its project and roles, the usual roles, the region and the catalog.
    ///
    /// # Errors
    /// Where the database cannot be written or the password cannot be hashed.
    pub fn bootstrap(&self, plan: &Bootstrap) -> Result<Bootstrapped> {
        let domain_id = self.config.default_domain_id.as_str();
        let rules = &self.config.security_compliance;
        let known = self.read(|tx| users::by_name(tx, &plan.admin_user, domain_id, rules))?;
        let Some(user) = known else {
            let hash = self.passwords.hash(&plan.admin_password)?;
            return self.write(|tx| self.lay_foundations(tx, plan, domain_id, Some(&hash)));
        };
        // The cloud is its administrators' by now: their password, roles and projects stay as they made them.
        self.write(|tx| {
            let mut changed = false;
            for service in &plan.services {
                changed |= self.catalog_service(tx, &plan.region, service)?;
            }
            let project = projects::by_name(tx, &plan.admin_project, domain_id)?;
            let admin_project_id = project.map(|p| text(&p, "id").to_owned()).unwrap_or_default();
            Ok(Bootstrapped {
                admin_user_id: text(&user, "id").to_owned(),
                admin_project_id,
                changed,
            })
        })
    }

    fn lay_foundations(
        &self,
        tx: &mut Tx<'_>,
        plan: &Bootstrap,
        domain_id: &str,
        hash: Option<&str>,
    ) -> Result<Bootstrapped> {
        let mut changed = false;
        let mut made = |it: bool| changed |= it;
        if projects::PROJECTS.find(tx, "id = ?1", &params![domain_id])?.is_none() {
            self.create_domain(
                tx,
                object(
                    json!({"id": domain_id, "name": "Default", "enabled": true, "description": "The default domain"}),
                ),
            )?;
            made(true);
        }
        let project = match projects::by_name(tx, &plan.admin_project, domain_id)? {
            Some(project) => project,
            None => {
                made(true);
                let description = "Bootstrap project for initializing the cloud.";
                self.create_project(tx, object(json!({"name": plan.admin_project, "domain_id": domain_id, "description": description, "enabled": true})))?
            }
        };
        let user = object(json!({"name": plan.admin_user, "domain_id": domain_id, "enabled": true}));
        let user = self.create_user(tx, user, hash)?;
        made(true);
        let mut role = |tx: &mut Tx<'_>, name: &str| match roles::global_by_name(tx, name)? {
            Some(role) => Ok::<_, Error>(text(&role, "id").to_owned()),
            None => {
                made(true);
                let role = self.create_role(tx, object(json!({"name": name, "options": {"immutable": true}})))?;
                Ok(text(&role, "id").to_owned())
            }
        };
        let (reader, member, manager, admin) = (
            role(tx, "reader")?,
            role(tx, "member")?,
            role(tx, "manager")?,
            role(tx, "admin")?,
        );
        role(tx, "service")?;
        for (prior, implied) in [(&member, &reader), (&manager, &member), (&admin, &manager)] {
            if !roles::implied_by(tx, prior)?.contains(implied) {
                self.imply_role(tx, prior, implied)?;
                changed = true;
            }
        }
        let (user_id, project_id) = (text(&user, "id").to_owned(), text(&project, "id").to_owned());
        self.grant(
            tx,
            &admin,
            &Actor::User(user_id.clone()),
            &Target::Project(project_id.clone()),
            false,
        )?;
        self.grant(tx, &admin, &Actor::User(user_id.clone()), &Target::System, false)?;
        if REGIONS.find(tx, "id = ?1", &params![&plan.region])?.is_none() {
            self.create_region(tx, object(json!({"id": plan.region})))?;
            changed = true;
        }
        for service in &plan.services {
            changed |= self.catalog_service(tx, &plan.region, service)?;
        }
        Ok(Bootstrapped {
            admin_user_id: user_id,
            admin_project_id: project_id,
            changed,
        })
    }

    fn catalog_service(&self, tx: &mut Tx<'_>, region: &str, wanted: &CatalogService) -> Result<bool> {
        let mut changed = false;
        let service = match SERVICES.find(tx, "type = ?1 ORDER BY id", &params![&wanted.kind])? {
            Some(service) => service,
            None => {
                changed = true;
                self.create_service(
                    tx,
                    object(json!({"id": new_id(), "type": wanted.kind, "name": wanted.name, "enabled": true})),
                )?
            }
        };
        let urls = [
            ("public", &wanted.public_url),
            ("internal", &wanted.internal_url),
            ("admin", &wanted.admin_url),
        ];
        for (interface, url) in urls {
            let condition = "service_id = ?1 AND region_id = ?2 AND interface = ?3 ORDER BY id";
            match ENDPOINTS.find(tx, condition, &params![text(&service, "id"), region, interface])? {
                Some(endpoint) if text(&endpoint, "url") == url => {}
                Some(endpoint) => {
                    changed = true;
                    self.update_endpoint(tx, text(&endpoint, "id"), object(json!({"url": url})))?;
                }
                None => {
                    changed = true;
                    let endpoint = json!({"id": new_id(), "interface": interface, "url": url, "service_id": service["id"], "region_id": region, "enabled": true});
                    self.create_endpoint(tx, object(endpoint))?;
                }
            }
        }
        Ok(changed)
    }
}
