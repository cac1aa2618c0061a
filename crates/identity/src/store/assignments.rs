//! Who has which role where: what was granted, and what follows from it through groups, inheritance and implied roles.

use super::{projects, roles, text, users};
use crate::{Error, Result};
use database::{Select, Tx, Value as Sql, params};
use std::collections::{BTreeSet, HashMap, HashSet};

/// Who has a role.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Actor {
    /// A user, by id.
    User(String),
    /// The members of a group, by its id.
    Group(String),
}

/// Where a role is good.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A project, by id.
    Project(String),
    /// A domain, by id.
    Domain(String),
    /// The whole cloud.
    System,
}

impl Actor {
    /// The id.
    pub fn id(&self) -> &str {
        match self {
            Actor::User(id) | Actor::Group(id) => id,
        }
    }
}

impl Target {
    /// The id; `system` for the system.
    pub fn id(&self) -> &str {
        match self {
            Target::Project(id) | Target::Domain(id) => id,
            Target::System => "system",
        }
    }
}

fn kind(actor: &Actor, target: &Target) -> &'static str {
    match (actor, target) {
        (Actor::User(_), Target::Project(_)) => "UserProject",
        (Actor::Group(_), Target::Project(_)) => "GroupProject",
        (Actor::User(_), Target::Domain(_)) => "UserDomain",
        (Actor::Group(_), Target::Domain(_)) => "GroupDomain",
        (Actor::User(_), Target::System) => "UserSystem",
        (Actor::Group(_), Target::System) => "GroupSystem",
    }
}

/// One assignment, and how it came about where it was not granted as such.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Assignment {
    /// Who.
    pub actor: Actor,
    /// Where.
    pub target: Target,
    /// What.
    pub role_id: String,
    /// It does not hold on the target but on the projects below.
    pub inherited: bool,
    /// The group through which the user has it.
    pub via_group: Option<String>,
    /// The project or domain it was inherited from.
    pub via_target: Option<Target>,
    /// The role that implies it.
    pub via_role: Option<String>,
}

/// Grants a role; twice is once.
pub fn grant(tx: &mut Tx<'_>, role_id: &str, actor: &Actor, target: &Target, inherited: bool) -> Result<()> {
    tx.execute(
        "INSERT INTO identity_assignments (kind, actor_id, target_id, role_id, inherited) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
        &params![kind(actor, target), actor.id(), target.id(), role_id, inherited],
    )?;
    Ok(())
}

/// # Errors
/// 404 where the role was not granted just so.
pub fn check(tx: &mut Tx<'_>, role_id: &str, actor: &Actor, target: &Target, inherited: bool) -> Result<()> {
    let found: Option<i64> = tx.scalar(
        "SELECT 1 FROM identity_assignments WHERE actor_id = ?2 AND target_id = ?3 AND kind = ?1 AND role_id = ?4 AND inherited = ?5",
        &params![kind(actor, target), actor.id(), target.id(), role_id, inherited],
    )?;
    found.map(|_| ()).ok_or_else(|| missing(role_id, actor, target))
}

/// The 404 of a grant that is not there.
pub fn missing(role_id: &str, actor: &Actor, target: &Target) -> Error {
    Error::Missing(format!(
        "Could not find role assignment with role: {role_id}, user or group: {}, project, domain, or system: {}.",
        actor.id(),
        target.id()
    ))
}

/// Takes a granted role away.
pub fn revoke(tx: &mut Tx<'_>, role_id: &str, actor: &Actor, target: &Target, inherited: bool) -> Result<()> {
    let removed = tx.execute(
        "DELETE FROM identity_assignments WHERE actor_id = ?2 AND target_id = ?3 AND kind = ?1 AND role_id = ?4 AND inherited = ?5",
        &params![kind(actor, target), actor.id(), target.id(), role_id, inherited],
    )?;
    if removed == 0 {
        Err(missing(role_id, actor, target))
    } else {
        Ok(())
    }
}

/// The ids of the roles granted to one actor on one target.
pub fn granted(tx: &mut Tx<'_>, actor: &Actor, target: &Target, inherited: bool) -> Result<Vec<String>> {
    Ok(tx.column(
        "SELECT role_id FROM identity_assignments WHERE actor_id = ?2 AND target_id = ?3 AND kind = ?1 AND inherited = ?4 ORDER BY role_id",
        &params![kind(actor, target), actor.id(), target.id(), inherited],
    )?)
}

/// Removes everything granted to an actor.
pub fn forget_actor(tx: &mut Tx<'_>, actor: &Actor) -> Result<()> {
    let like = if matches!(actor, Actor::User(_)) {
        "User%"
    } else {
        "Group%"
    };
    tx.execute(
        "DELETE FROM identity_assignments WHERE actor_id = ?1 AND kind LIKE ?2",
        &params![actor.id(), like],
    )?;
    Ok(())
}

/// Removes everything granted on a target.
pub fn forget_target(tx: &mut Tx<'_>, target: &Target) -> Result<()> {
    let like = if matches!(target, Target::Project(_)) {
        "%Project"
    } else {
        "%Domain"
    };
    tx.execute(
        "DELETE FROM identity_assignments WHERE target_id = ?1 AND kind LIKE ?2",
        &params![target.id(), like],
    )?;
    Ok(())
}

/// What a listing of granted roles is about; `None` is anything.
#[derive(Clone, Debug, Default)]
struct Granted {
    users: Option<String>,
    groups: Option<Vec<String>>,
    projects: Option<Vec<String>>,
    domain: Option<String>,
    role: Option<String>,
    inherited: Option<bool>,
    system: Option<bool>,
}

fn select(tx: &mut Tx<'_>, what: &Granted) -> Result<Vec<Assignment>> {
    let mut select = Select::new("kind, actor_id, target_id, role_id, inherited", "identity_assignments");
    let many = |ids: &[String]| ids.iter().map(Sql::from).collect::<Vec<_>>();
    if let Some(groups) = &what.groups {
        select
            .filter_in("actor_id", &many(groups))
            .filter("kind LIKE 'Group%'", &[]);
    } else if let Some(user) = &what.users {
        select.filter("actor_id = ? AND kind LIKE 'User%'", &[user.into()]);
    }
    if let Some(projects) = &what.projects {
        select
            .filter_in("target_id", &many(projects))
            .filter("kind LIKE '%Project'", &[]);
    } else if let Some(domain) = &what.domain {
        select.filter("target_id = ? AND kind LIKE '%Domain'", &[domain.into()]);
    }
    if let Some(role) = &what.role {
        select.filter("role_id = ?", &[role.into()]);
    }
    if let Some(inherited) = what.inherited {
        select.filter("inherited = ?", &[inherited.into()]);
    }
    match what.system {
        Some(true) => select.filter("kind LIKE '%System'", &[]),
        Some(false) => select.filter("kind NOT LIKE '%System'", &[]),
        None => &mut select,
    };
    for column in ["actor_id", "target_id", "kind", "role_id"] {
        select.order(column, database::Direction::Ascending);
    }
    select
        .rows(tx)?
        .iter()
        .map(|row| {
            let (kind, actor, target): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(Assignment {
                actor: if kind.starts_with("User") {
                    Actor::User(actor)
                } else {
                    Actor::Group(actor)
                },
                target: match () {
                    () if kind.ends_with("Project") => Target::Project(target),
                    () if kind.ends_with("Domain") => Target::Domain(target),
                    () => Target::System,
                },
                role_id: row.get(3)?,
                inherited: row.get(4)?,
                via_group: None,
                via_target: None,
                via_role: None,
            })
        })
        .collect()
}

/// Filters of a list of role assignments.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Only this role.
    pub role_id: Option<String>,
    /// Only this user.
    pub user_id: Option<String>,
    /// Only this group.
    pub group_id: Option<String>,
    /// Only on the system.
    pub system: bool,
    /// Only on this domain.
    pub domain_id: Option<String>,
    /// Only on this project.
    pub project_id: Option<String>,
    /// And on the projects below it.
    pub include_subtree: bool,
    /// Only inherited ones, or only others.
    pub inherited: Option<bool>,
    /// What follows from the grants instead of the grants themselves.
    pub effective: bool,
    /// Keep domain-specific roles in an effective list.
    pub keep_domain_roles: bool,
}

/// The assignments that match.
pub fn list(tx: &mut Tx<'_>, query: &Query) -> Result<Vec<Assignment>> {
    let subtree: Vec<String> = match &query.project_id {
        Some(project) if query.include_subtree => {
            projects::get(tx, project)?;
            projects::subtree(tx, project)?
                .iter()
                .map(|p| text(p, "id").to_owned())
                .collect()
        }
        _ => Vec::new(),
    };
    if query.effective {
        effective(tx, query, &subtree)
    } else {
        direct(tx, query, &subtree)
    }
}

fn of_interest(query: &Query, subtree: &[String]) -> Option<Vec<String>> {
    query
        .project_id
        .as_ref()
        .map(|project| subtree.iter().cloned().chain([project.clone()]).collect())
}

fn direct(tx: &mut Tx<'_>, query: &Query, subtree: &[String]) -> Result<Vec<Assignment>> {
    let what = Granted {
        users: query.user_id.clone(),
        groups: query.group_id.clone().map(|g| vec![g]),
        projects: of_interest(query, subtree),
        domain: query.domain_id.clone(),
        role: query.role_id.clone(),
        inherited: query.inherited,
        system: Some(false),
    };
    let mut found = if query.system { Vec::new() } else { select(tx, &what)? };
    if query.system || (query.project_id.is_none() && query.domain_id.is_none()) {
        found.extend(select(
            tx,
            &Granted {
                projects: None,
                domain: None,
                inherited: None,
                system: Some(true),
                ..what
            },
        )?);
    }
    Ok(found)
}

/// What is granted to an actor, with what the ancestors of a project hand down.
fn for_actor(
    tx: &mut Tx<'_>,
    query: &Query,
    subtree: &[String],
    users: Option<String>,
    groups: Option<Vec<String>>,
) -> Result<Vec<Assignment>> {
    let inherited = if query.domain_id.is_some() {
        Some(false)
    } else {
        query.inherited
    };
    let interest = of_interest(query, subtree);
    let base = Granted {
        users,
        groups,
        system: Some(false),
        ..Granted::default()
    };
    let mut found = Vec::new();
    if inherited != Some(true) {
        let what = Granted {
            projects: interest.clone(),
            domain: query.domain_id.clone(),
            inherited: Some(false),
            ..base.clone()
        };
        found.extend(select(tx, &what)?);
    }
    if inherited != Some(false) {
        match &query.project_id {
            Some(project) => {
                let project = projects::get(tx, project)?;
                let domain = Some(text(&project, "domain_id").to_owned());
                found.extend(select(
                    tx,
                    &Granted {
                        domain,
                        inherited: Some(true),
                        ..base.clone()
                    },
                )?);
                let mut sources: Vec<String> = projects::parents(tx, &project)?
                    .iter()
                    .map(|p| text(p, "id").to_owned())
                    .collect();
                if !subtree.is_empty() {
                    sources.extend(interest.unwrap_or_default());
                }
                found.extend(select(
                    tx,
                    &Granted {
                        projects: Some(sources),
                        inherited: Some(true),
                        ..base
                    },
                )?);
            }
            None => found.extend(select(
                tx,
                &Granted {
                    inherited: Some(true),
                    ..base
                },
            )?),
        }
    }
    Ok(found)
}

fn effective(tx: &mut Tx<'_>, query: &Query, subtree: &[String]) -> Result<Vec<Assignment>> {
    if query.group_id.is_some() || (query.domain_id.is_some() && query.inherited == Some(true)) {
        return Ok(Vec::new());
    }
    let mut granted = for_actor(tx, query, subtree, query.user_id.clone(), None)?;
    if let Some(user) = &query.user_id {
        let groups = super::groups::ids_of_user(tx, user)?;
        if !groups.is_empty() {
            granted.extend(for_actor(tx, query, subtree, None, Some(groups))?);
        }
    }
    let mut expansion = Expansion {
        query,
        subtree,
        members: HashMap::new(),
        below: HashMap::new(),
    };
    let mut found = Vec::new();
    for assignment in granted {
        expansion.expand(tx, assignment, &mut found)?;
    }
    add_implied(tx, &mut found)?;
    if !query.keep_domain_roles {
        let global: BTreeSet<String> = tx
            .column("SELECT id FROM identity_roles WHERE domain_id = ''", &[])?
            .into_iter()
            .collect();
        found.retain(|a| global.contains(&a.role_id));
    }
    if let Some(role) = &query.role_id {
        found.retain(|a| a.role_id == *role);
    }
    Ok(found)
}

/// Grants turned into what they mean for users and projects; what is looked up is kept for the next.
struct Expansion<'a> {
    query: &'a Query,
    subtree: &'a [String],
    members: HashMap<String, Vec<String>>,
    below: HashMap<Target, Vec<String>>,
}

impl Expansion<'_> {
    fn expand(&mut self, tx: &mut Tx<'_>, granted: Assignment, found: &mut Vec<Assignment>) -> Result<()> {
        let places: Vec<Assignment> = if granted.inherited {
            self.projects(tx, &granted.target)?
                .into_iter()
                .map(|project| Assignment {
                    target: Target::Project(project),
                    inherited: false,
                    via_target: Some(granted.target.clone()),
                    ..granted.clone()
                })
                .collect()
        } else {
            vec![granted.clone()]
        };
        let Actor::Group(group) = &granted.actor else {
            found.extend(places);
            return Ok(());
        };
        let users = match &self.query.user_id {
            Some(user) => vec![user.clone()],
            None => {
                if !self.members.contains_key(group) {
                    let members = users::ids_in_group(tx, group)?;
                    self.members.insert(group.clone(), members);
                }
                self.members.get(group).cloned().unwrap_or_default()
            }
        };
        for user in users {
            let of_user = |a: &Assignment| Assignment {
                actor: Actor::User(user.clone()),
                via_group: Some(group.clone()),
                ..a.clone()
            };
            found.extend(places.iter().map(of_user));
        }
        Ok(())
    }

    /// The projects on which an inherited grant holds, as far as they were asked for.
    fn projects(&mut self, tx: &mut Tx<'_>, target: &Target) -> Result<Vec<String>> {
        if let Some(project) = &self.query.project_id {
            let mut asked: Vec<String> = [project.clone()]
                .into_iter()
                .chain(self.subtree.iter().cloned())
                .collect();
            if !self.subtree.is_empty()
                && let Target::Project(source) = target
                && asked.contains(source)
            {
                asked = self.below(tx, target)?;
            }
            return Ok(asked);
        }
        self.below(tx, target)
    }

    fn below(&mut self, tx: &mut Tx<'_>, target: &Target) -> Result<Vec<String>> {
        if let Some(known) = self.below.get(target) {
            return Ok(known.clone());
        }
        let found: Vec<String> = match target {
            Target::Domain(id) => tx.column(
                "SELECT id FROM identity_projects WHERE domain_id = ?1 ORDER BY id",
                &params![id],
            )?,
            Target::Project(id) => projects::subtree(tx, id)?
                .iter()
                .map(|p| text(p, "id").to_owned())
                .collect(),
            Target::System => Vec::new(),
        };
        self.below.insert(target.clone(), found.clone());
        Ok(found)
    }
}

fn add_implied(tx: &mut Tx<'_>, found: &mut Vec<Assignment>) -> Result<()> {
    let implications = roles::implications(tx)?;
    let mut known: HashSet<Assignment> = found.iter().cloned().collect();
    let mut next = 0;
    while next < found.len() {
        let prior = found[next].clone();
        for implied in implications.get(&prior.role_id).into_iter().flatten() {
            let one = Assignment {
                role_id: implied.clone(),
                via_role: Some(prior.role_id.clone()),
                ..prior.clone()
            };
            if known.insert(one.clone()) {
                found.push(one);
            }
        }
        next += 1;
    }
    Ok(())
}

/// The ids of the roles a user has on a project or domain, everything considered.
pub fn effective_roles(
    tx: &mut Tx<'_>,
    user_id: &str,
    target: &Target,
    keep_domain_roles: bool,
) -> Result<BTreeSet<String>> {
    let groups = super::groups::ids_of_user(tx, user_id)?;
    let mut targets: Vec<Sql> = vec![target.id().into()];
    let mut domain = String::new();
    if let Target::Project(id) = target {
        let project = projects::PROJECTS.get(tx, id)?;
        domain = text(&project, "domain_id").to_owned();
        targets.push((&domain).into());
        let mut parent = text(&project, "parent_id").to_owned();
        while !parent.is_empty() && parent != domain {
            targets.push((&parent).into());
            parent = text(&projects::PROJECTS.get(tx, &parent)?, "parent_id").to_owned();
        }
    }
    let actors: Vec<Sql> = [user_id.to_owned()].iter().chain(&groups).map(Sql::from).collect();
    let mut select = Select::new("kind, target_id, role_id, inherited", "identity_assignments");
    select.filter_in("actor_id", &actors).filter_in("target_id", &targets);
    let mut held = Vec::new();
    for row in select.rows(tx)? {
        let (kind, at, role, inherited): (String, String, String, bool) =
            (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        let holds = match target {
            Target::System => kind.ends_with("System"),
            Target::Domain(_) => kind.ends_with("Domain") && !inherited,
            Target::Project(id) if at == *id => kind.ends_with("Project") && !inherited,
            Target::Project(_) if at == domain => inherited,
            Target::Project(_) => kind.ends_with("Project") && inherited,
        };
        if holds {
            held.push(role);
        }
    }
    let mut all = roles::with_implied(tx, held)?;
    if !keep_domain_roles {
        let ids: Vec<String> = all.iter().cloned().collect();
        let roles = roles::ROLES.get_many(tx, &ids)?;
        all = roles
            .iter()
            .filter(|r| text(r, "domain_id").is_empty())
            .map(|r| text(r, "id").to_owned())
            .collect();
    }
    Ok(all)
}
