//! What Compute needs of Placement, within Compute's own transactions.

use std::collections::{BTreeMap, HashMap};

use ::api::services::{Capacity, ClassRoom, Consumer, ProviderRoom};
use database::{Tx, now, params};

use crate::model::Inventory;
use crate::store::{aggregates, allocations, inventories, providers, traits};
use crate::{Error, Placement};

type Answer<T> = Result<T, ::api::Error>;

impl Capacity for Placement {
    fn candidates(&self, tx: &mut Tx<'_>, resources: &BTreeMap<String, u64>) -> Answer<Vec<ProviderRoom>> {
        let wanted: Vec<(String, i64)> = resources
            .iter()
            .filter(|(_, amount)| **amount > 0)
            .map(|(class, amount)| (class.clone(), *amount as i64))
            .collect();
        let filters = providers::Filters {
            resources: wanted,
            ..providers::Filters::default()
        };
        let found = providers::list(tx, &filters)?;
        let mut at: HashMap<String, usize> = HashMap::with_capacity(found.len());
        let mut rooms: Vec<ProviderRoom> = Vec::with_capacity(found.len());
        for provider in found {
            at.insert(provider.uuid.clone(), rooms.len());
            rooms.push(ProviderRoom {
                uuid: provider.uuid,
                name: provider.name,
                ..ProviderRoom::default()
            });
        }
        for (provider, stored) in inventories::all(tx)? {
            let Some(&at) = at.get(&provider) else { continue };
            let room = ClassRoom {
                total: stored.inventory.total.max(0) as u64,
                reserved: stored.inventory.reserved.max(0) as u64,
                allocation_ratio: stored.inventory.allocation_ratio,
                used: stored.used.max(0) as u64,
                max_unit: stored.inventory.max_unit.max(0) as u64,
            };
            rooms[at].classes.insert(stored.inventory.resource_class, room);
        }
        for (provider, name) in traits::all_of_providers(tx)? {
            if let Some(&at) = at.get(&provider) {
                rooms[at].traits.push(name);
            }
        }
        for (provider, uuid) in aggregates::all(tx)? {
            if let Some(&at) = at.get(&provider) {
                rooms[at].aggregates.push(uuid);
            }
        }
        Ok(rooms)
    }

    fn claim(
        &self,
        tx: &mut Tx<'_>,
        consumer: &Consumer,
        provider: &str,
        resources: &BTreeMap<String, u64>,
    ) -> Answer<bool> {
        let taken = tx.savepoint(|tx| {
            for (class, amount) in resources.iter().filter(|(_, amount)| **amount > 0) {
                claim_one(tx, consumer, provider, class, *amount as i64)?;
            }
            Ok::<_, Error>(())
        });
        match taken {
            Ok(()) => {}
            Err(error) if error.is_invalid_inventory() => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let touched = tx.execute(
            "UPDATE consumers SET generation = generation + 1, updated_at = ?2 WHERE uuid = ?1",
            &params![&consumer.uuid, now()],
        )?;
        if touched == 0 {
            tx.execute(
                "INSERT INTO consumers (uuid, project_id, user_id, consumer_type, generation, created_at) \
                 VALUES (?1, ?2, ?3, 'INSTANCE', 1, ?4)",
                &params![&consumer.uuid, &consumer.project_id, &consumer.user_id, now()],
            )?;
        }
        providers::bump(tx, provider)?;
        Ok(true)
    }

    fn release(&self, tx: &mut Tx<'_>, consumer: &str) -> Answer<()> {
        allocations::delete(tx, consumer)?;
        Ok(())
    }

    fn ensure_provider(
        &self,
        tx: &mut Tx<'_>,
        uuid: &str,
        name: &str,
        inventory: &BTreeMap<String, ClassRoom>,
        traits: &[String],
    ) -> Answer<()> {
        match providers::find(tx, uuid)? {
            None => {
                providers::create(tx, uuid, name, None).map_err(|error| ::api::Error::conflict(error.to_string()))?;
            }
            Some(provider) if provider.name != name => {
                providers::update(tx, &provider, name, provider.parent_uuid.as_deref(), false)
                    .map_err(|error| ::api::Error::conflict(error.to_string()))?;
            }
            Some(_) => {}
        }
        let have = inventories::of_provider(tx, uuid)?;
        let mut wanted: Vec<Inventory> = inventory
            .iter()
            .filter(|(_, room)| room.total > 0)
            .map(|(class, room)| Inventory {
                reserved: room.reserved.min(room.total) as i64,
                max_unit: if room.max_unit == 0 { room.total } else { room.max_unit } as i64,
                allocation_ratio: if room.allocation_ratio > 0.0 {
                    room.allocation_ratio
                } else {
                    1.0
                },
                ..Inventory::new(class, room.total as i64)
            })
            .collect();
        // What a guest holds stays on the books even if the node no longer reports the class.
        for stored in have.iter().filter(|stored| stored.used > 0) {
            if !wanted
                .iter()
                .any(|one| one.resource_class == stored.inventory.resource_class)
            {
                wanted.push(stored.inventory.clone());
            }
        }
        let same = wanted.len() == have.len() && wanted.iter().all(|one| have.iter().any(|old| old.inventory == *one));
        if !same {
            inventories::set(tx, uuid, &wanted)?;
        }
        for name in traits {
            self::traits::ensure(tx, name)?;
        }
        self::traits::set_of_provider(tx, uuid, traits)?;
        Ok(())
    }

    fn set_aggregates(&self, tx: &mut Tx<'_>, provider: &str, aggregates: &[String]) -> Answer<()> {
        if aggregates::of_provider(tx, provider)? != aggregates {
            aggregates::set_of_provider(tx, provider, aggregates)?;
            providers::bump(tx, provider)?;
        }
        Ok(())
    }
}

fn claim_one(tx: &mut Tx<'_>, consumer: &Consumer, provider: &str, class: &str, amount: i64) -> Result<(), Error> {
    if !allocations::take(tx, provider, class, amount)? {
        return Err(allocations::refusal(tx, provider, class, amount)?);
    }
    tx.execute(
        "INSERT INTO allocations (consumer_uuid, provider_uuid, resource_class, used, created_at) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (consumer_uuid, provider_uuid, resource_class) DO UPDATE SET used = allocations.used + excluded.used",
        &params![&consumer.uuid, provider, class, amount, now()],
    )?;
    Ok(())
}
