//! Resources as data: each has a table of attributes that drives validation, defaults, policy, filters, sorting and output.

use super::convert::Convert;
use super::validate::Check;
use crate::caller::Cx;
use crate::store::item::Item;
use crate::{Error, Result};
use database::Select;
use serde_json::{Map, Value, json};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::LazyLock;

/// What a client sent for one resource, validated, with defaults filled in. An attribute that was not given and has no default is absent.
pub type Body = Map<String, Value>;

/// What an attribute is when a POST leaves it out.
#[derive(Clone, Copy, Debug)]
pub enum Initial {
    /// It must be given.
    Required,
    /// It stays unset (upstream's `ATTR_NOT_SPECIFIED`).
    Unset,
    /// Null.
    Null,
    /// This text.
    Text(&'static str),
    /// This number.
    Int(i64),
    /// This truth.
    Bool(bool),
    /// An empty list.
    List,
}

impl Initial {
    /// The value, where there is one.
    pub fn value(self) -> Option<Value> {
        match self {
            Initial::Required | Initial::Unset => None,
            Initial::Null => Some(Value::Null),
            Initial::Text(text) => Some(json!(text)),
            Initial::Int(number) => Some(json!(number)),
            Initial::Bool(truth) => Some(json!(truth)),
            Initial::List => Some(json!([])),
        }
    }
}

/// How a column holds an attribute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Text.
    Text,
    /// A number.
    Int,
    /// 0 or 1.
    Bool,
    /// JSON.
    Json,
    /// µs since the epoch, shown as `2026-11-22T20:31:00Z`.
    Time,
}

/// One attribute of a resource.
#[derive(Clone, Copy)]
pub struct Attribute {
    /// Its name in the API.
    pub name: &'static str,
    /// May be given in a POST.
    pub post: bool,
    /// May be given in a PUT.
    pub put: bool,
    /// Is shown.
    pub visible: bool,
    /// Lists can be filtered by it.
    pub filter: bool,
    /// Lists can be sorted by it.
    pub sort: bool,
    /// Is left out where it is null.
    pub optional: bool,
    /// Setting it has a policy rule of its own (`create_network:shared`).
    pub enforced: bool,
    /// What it is when not given.
    pub initial: Initial,
    /// Applied to what is given.
    pub convert: Option<Convert>,
    /// Checked after that.
    pub check: Check,
    /// The SQL expression that reads it, and how; the table is `t`.
    pub column: Option<(&'static str, Kind)>,
}

/// An attribute whose flags are letters: C(reate), U(pdate), V(isible), F(ilter), S(ort), P(olicy of its own),
/// O(mitted where null).
pub const fn a(name: &'static str, flags: &'static str) -> Attribute {
    let mut it = Attribute {
        name,
        post: false,
        put: false,
        visible: false,
        filter: false,
        sort: false,
        optional: false,
        enforced: false,
        initial: Initial::Required,
        convert: None,
        check: Check::Any,
        column: None,
    };
    let bytes = flags.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'C' => it.post = true,
            b'U' => it.put = true,
            b'V' => it.visible = true,
            b'F' => it.filter = true,
            b'S' => it.sort = true,
            b'P' => it.enforced = true,
            b'O' => it.optional = true,
            _ => panic!("a flag is one of CUVFSPO"),
        }
        i += 1;
    }
    it
}

impl Attribute {
    /// With this default.
    pub const fn or(mut self, initial: Initial) -> Attribute {
        self.initial = initial;
        self
    }

    /// Converted so.
    pub const fn to(mut self, convert: Convert) -> Attribute {
        self.convert = Some(convert);
        self
    }

    /// Checked so.
    pub const fn is(mut self, check: Check) -> Attribute {
        self.check = check;
        self
    }

    /// In this column.
    pub const fn at(mut self, column: &'static str, kind: Kind) -> Attribute {
        self.column = Some((column, kind));
        self
    }

    /// In the text column of the same name.
    pub const fn text(self) -> Attribute {
        let name = self.name;
        self.at(name, Kind::Text)
    }

    /// In the number column of the same name.
    pub const fn int(self) -> Attribute {
        let name = self.name;
        self.at(name, Kind::Int)
    }

    /// In the boolean column of the same name.
    pub const fn bool(self) -> Attribute {
        let name = self.name;
        self.at(name, Kind::Bool)
    }

    /// In the JSON column of the same name.
    pub const fn json(self) -> Attribute {
        let name = self.name;
        self.at(name, Kind::Json)
    }

    /// In the time column of the same name.
    pub const fn time(self) -> Attribute {
        let name = self.name;
        self.at(name, Kind::Time)
    }
}

/// Who sees a row, apart from administrators, who see all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sight {
    /// Its project.
    Owner,
    /// Its project, and those it is shared with by RBAC policies of this object type.
    Shared(&'static str),
    /// Its project, and those its network is shared with or is external for.
    OfNetwork,
    /// Its project, and the owner of its network.
    Port,
    /// The owner of its security group.
    GroupRule,
    /// Its project, and everyone where it says that it is shared.
    MeteringLabel,
    /// Everyone whom the policy lets.
    Everyone,
}

/// Creates a resource and returns its id.
pub type Create = fn(&mut Cx<'_, '_>, Body) -> Result<String>;
/// Changes a resource.
pub type Update = fn(&mut Cx<'_, '_>, &Item, Body) -> Result<()>;
/// Deletes a resource.
pub type Delete = fn(&mut Cx<'_, '_>, &Item) -> Result<()>;
/// Fills in the attributes that have no column, for a whole list at once.
pub type Extend = fn(&mut Cx<'_, '_>, &mut [Item]) -> Result<()>;
/// Makes what a list must have.
pub type Prepare = fn(&crate::Network, &api::Request) -> Result<()>;
/// Filters by an attribute that is no plain column; false where it does not know it.
pub type Filter = fn(&mut Cx<'_, '_>, &mut Select, &str, &[String]) -> Result<bool>;

/// A kind of resource.
pub struct Resource {
    /// `network`: the key of bodies, and the second part of policy rules.
    pub name: &'static str,
    /// `networks`: the key of lists.
    pub collection: &'static str,
    /// The path of the collection.
    pub path: &'static str,
    /// The path of one.
    pub item_path: &'static str,
    /// The table.
    pub table: &'static str,
    /// The column that is in the path.
    pub key: &'static str,
    /// The attributes.
    pub attributes: &'static [Attribute],
    /// Who sees it.
    pub sight: Sight,
    /// Whether it has description, revision and timestamps.
    pub standard: bool,
    /// Whether it has tags.
    pub tags: bool,
    /// The quota that counts it.
    pub quota: Option<&'static str>,
    /// The topic of the change feed.
    pub topic: Option<&'static str>,
    /// The error for an unknown one.
    pub not_found: fn(&str) -> Error,
    /// What must be there before a list is read.
    pub prepare: Prepare,
    /// POST.
    pub create: Option<Create>,
    /// PUT.
    pub update: Option<Update>,
    /// DELETE.
    pub delete: Option<Delete>,
    /// Attributes without column.
    pub extend: Extend,
    /// Filters without column.
    pub filter: Filter,
}

fn prepare_nothing(_: &crate::Network, _: &api::Request) -> Result<()> {
    Ok(())
}

fn extend_nothing(_: &mut Cx<'_, '_>, _: &mut [Item]) -> Result<()> {
    Ok(())
}

fn filter_nothing(_: &mut Cx<'_, '_>, _: &mut Select, _: &str, _: &[String]) -> Result<bool> {
    Ok(false)
}

impl Resource {
    /// A resource with the usual properties, to be completed with struct update syntax.
    pub const fn base(
        name: &'static str,
        collection: &'static str,
        path: &'static str,
        item_path: &'static str,
        attributes: &'static [Attribute],
        not_found: fn(&str) -> Error,
    ) -> Resource {
        Resource {
            name,
            collection,
            path,
            item_path,
            table: collection,
            key: "id",
            attributes,
            sight: Sight::Owner,
            standard: true,
            tags: false,
            quota: None,
            topic: None,
            not_found,
            prepare: prepare_nothing,
            create: None,
            update: None,
            delete: None,
            extend: extend_nothing,
            filter: filter_nothing,
        }
    }

    /// The attribute of this name.
    pub fn attribute(&self, name: &str) -> Option<&'static Attribute> {
        self.attributes.iter().find(|a| a.name == name)
    }

    /// Its place.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.attributes.iter().position(|a| a.name == name)
    }

    /// The select list that [`Item::from_row`] reads; made once per table of attributes and kept for the program's life.
    pub fn select_list(&self) -> &'static str {
        static LISTS: LazyLock<RwLock<HashMap<usize, &'static str>>> = LazyLock::new(RwLock::default);
        let key = self.attributes.as_ptr() as usize;
        if let Some(list) = LISTS.read().get(&key) {
            return list;
        }
        let columns: Vec<String> = self.attributes.iter().filter_map(|a| a.column).map(|(c, _)| qualified(c)).collect();
        LISTS.write().entry(key).or_insert_with(|| Box::leak(columns.join(", ").into_boxed_str()))
    }
}

/// A bare column name belongs to the table `t`; an expression stands for itself.
pub fn qualified(column: &str) -> String {
    if column.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') { format!("t.{column}") } else { column.into() }
}

/// The attributes that many resources have: `attributes![standard tags; …]`.
#[macro_export]
macro_rules! attributes {
    [standard; $($more:expr),* $(,)?] => {
        $crate::attributes![plain;
            $($more,)*
            $crate::model::attribute::a("description", "CUVFS")
                .or($crate::model::attribute::Initial::Text(""))
                .is($crate::model::validate::Check::TextOrNone(255)).text(),
            $crate::model::attribute::a("created_at", "VFS").or($crate::model::attribute::Initial::Unset).time(),
            $crate::model::attribute::a("updated_at", "VFS").or($crate::model::attribute::Initial::Unset).time(),
            $crate::model::attribute::a("revision_number", "VFS").or($crate::model::attribute::Initial::Unset).int(),
            $crate::model::attribute::a("changed_since", "F").or($crate::model::attribute::Initial::Unset),
        ]
    };
    [tagged; $($more:expr),* $(,)?] => {
        $crate::attributes![standard;
            $($more,)*
            $crate::model::attribute::a("tags", "VF").or($crate::model::attribute::Initial::Unset),
            $crate::model::attribute::a("tags-any", "F").or($crate::model::attribute::Initial::Unset),
            $crate::model::attribute::a("not-tags", "F").or($crate::model::attribute::Initial::Unset),
            $crate::model::attribute::a("not-tags-any", "F").or($crate::model::attribute::Initial::Unset),
        ]
    };
    [plain; $($more:expr),* $(,)?] => { &[ $($more,)* ] };
}

/// `id`, and `project_id` with its old name.
pub const ID: Attribute = a("id", "VFS").is(Check::Uuid).text();
/// The owner.
pub const PROJECT: Attribute = a("project_id", "CVFS").or(Initial::Unset).is(Check::Text(255)).text();
/// The owner by the old name.
pub const TENANT: Attribute = a("tenant_id", "CVFS").or(Initial::Unset).is(Check::Text(255)).at("project_id", Kind::Text);
/// A name.
pub const NAME: Attribute = a("name", "CUVFS").or(Initial::Text("")).is(Check::Name(255)).text();
/// `admin_state_up`.
pub const ADMIN_STATE: Attribute = a("admin_state_up", "CUVFS").or(Initial::Bool(true)).to(super::convert::boolean).bool();
