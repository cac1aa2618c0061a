//! Everything the search for candidates looks at, read at once.

use std::collections::HashMap;

use database::Tx;

use super::inventories;
use crate::error::Result;
use crate::model::candidates::{Cloud, Node, Room};

/// Reads all providers with their inventories, traits and aggregates.
pub fn read(tx: &mut Tx<'_>) -> Result<Cloud> {
    let mut nodes: Vec<Node> = Vec::new();
    let mut parents: Vec<(Option<String>, String)> = Vec::new();
    let mut index: HashMap<String, usize> = HashMap::new();
    for row in tx.query(
        "SELECT uuid, name, generation, parent_uuid, root_uuid FROM resource_providers ORDER BY id",
        &[],
    )? {
        let uuid: String = row.get(0)?;
        index.insert(uuid.clone(), nodes.len());
        parents.push((row.get(3)?, row.get(4)?));
        nodes.push(Node {
            uuid,
            name: row.get(1)?,
            generation: row.get(2)?,
            parent: None,
            root: nodes.len(),
            inventories: Vec::new(),
            traits: Vec::new(),
            aggregates: Vec::new(),
        });
    }
    for (node, (parent, root)) in nodes.iter_mut().zip(&parents) {
        node.parent = parent.as_ref().and_then(|uuid| index.get(uuid).copied());
        node.root = index.get(root).copied().unwrap_or(node.root);
    }
    for (provider, stored) in inventories::all(tx)? {
        if let Some(&at) = index.get(&provider) {
            nodes[at].inventories.push(Room {
                inventory: stored.inventory,
                used: stored.used,
            });
        }
    }
    for (provider, name) in super::traits::all_of_providers(tx)? {
        if let Some(&at) = index.get(&provider) {
            nodes[at].traits.push(name);
        }
    }
    for (provider, uuid) in super::aggregates::all(tx)? {
        if let Some(&at) = index.get(&provider) {
            nodes[at].aggregates.push(uuid);
        }
    }
    let classes = super::resource_classes::list(tx)?
        .into_iter()
        .map(|class| class.name)
        .collect();
    let known_traits = super::traits::list(tx, &super::traits::Filters::default())?;
    Ok(Cloud {
        nodes,
        classes,
        traits: known_traits.into_iter().map(|found| found.name).collect(),
    })
}
