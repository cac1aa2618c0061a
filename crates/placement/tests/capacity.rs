//! Claims within the caller's transaction, many at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use api::services::{Capacity, ClassRoom, Consumer};
use database::testing::on_both;
use placement::Placement;

const HOST: &str = "2a9f1b80-1f53-4c2e-8a3f-0d1c2b3a4f50";

fn amounts(list: &[(&str, u64)]) -> BTreeMap<String, u64> {
    list.iter()
        .map(|(class, amount)| ((*class).to_owned(), *amount))
        .collect()
}

fn rooms(list: &[(&str, u64)]) -> BTreeMap<String, ClassRoom> {
    let room = |total: u64| ClassRoom {
        total,
        allocation_ratio: 1.0,
        ..ClassRoom::default()
    };
    list.iter()
        .map(|(class, total)| ((*class).to_owned(), room(*total)))
        .collect()
}

fn consumer(number: u64) -> Consumer {
    Consumer {
        uuid: format!("{number:08}-0000-4000-8000-000000000000"),
        project_id: "p".into(),
        user_id: "u".into(),
    }
}

#[test]
fn parallel_claims_take_exactly_what_there_is() {
    on_both(&[placement::MIGRATIONS], |database| {
        let placement = Placement::new(database.clone(), None).unwrap();
        let inventory = rooms(&[("VCPU", 20), ("MEMORY_MB", 4096)]);
        database
            .write(|tx| placement.ensure_provider(tx, HOST, "host", &inventory, &[]))
            .unwrap();
        let taken = Arc::new(AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (database, placement, taken) = (database.clone(), placement.clone(), taken.clone());
                scope.spawn(move || {
                    for at in 0..10 {
                        let consumer = consumer(thread * 100 + at);
                        let want = amounts(&[("VCPU", 1), ("MEMORY_MB", 100)]);
                        let claimed = database
                            .write(|tx| placement.claim(tx, &consumer, HOST, &want))
                            .unwrap();
                        taken.fetch_add(u64::from(claimed), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(taken.load(Ordering::Relaxed), 20);
        let rooms = database
            .read(|tx| placement.candidates(tx, &amounts(&[("MEMORY_MB", 1)])))
            .unwrap();
        assert_eq!(
            (rooms[0].classes["VCPU"].used, rooms[0].classes["MEMORY_MB"].used),
            (20, 2000)
        );
        assert!(
            database
                .read(|tx| placement.candidates(tx, &amounts(&[("VCPU", 1)])))
                .unwrap()
                .is_empty()
        );
    });
}

#[test]
fn a_claim_is_whole_or_not_at_all_and_can_be_released() {
    on_both(&[placement::MIGRATIONS], |database| {
        let placement = Placement::new(database.clone(), None).unwrap();
        let inventory = rooms(&[("VCPU", 4), ("MEMORY_MB", 100)]);
        database
            .write(|tx| placement.ensure_provider(tx, HOST, "host", &inventory, &["CUSTOM_X".into()]))
            .unwrap();
        let claim = |want: &[(&str, u64)]| {
            database
                .write(|tx| placement.claim(tx, &consumer(1), HOST, &amounts(want)))
                .unwrap()
        };
        assert!(!claim(&[("VCPU", 1), ("MEMORY_MB", 200)]));
        assert!(!claim(&[("VCPU", 1), ("DISK_GB", 1)]));
        let used = || database.read(|tx| placement.candidates(tx, &amounts(&[]))).unwrap()[0].classes["VCPU"].used;
        assert_eq!(used(), 0);
        assert!(claim(&[("VCPU", 3)]));
        assert_eq!(used(), 3);
        database.write(|tx| placement.release(tx, &consumer(1).uuid)).unwrap();
        assert_eq!(used(), 0);
    });
}

#[test]
fn a_node_that_says_the_same_again_changes_nothing() {
    on_both(&[placement::MIGRATIONS], |database| {
        let placement = Placement::new(database.clone(), None).unwrap();
        let generation = || {
            let sql = "SELECT generation FROM resource_providers";
            database.read(|tx| tx.scalar::<i64>(sql, &[])).unwrap()
        };
        let report = || {
            let inventory = rooms(&[("VCPU", 4)]);
            database
                .write(|tx| placement.ensure_provider(tx, HOST, "host", &inventory, &["CUSTOM_X".into()]))
                .unwrap();
        };
        report();
        let first = generation();
        report();
        assert_eq!(generation(), first);
        let rooms = database.read(|tx| placement.candidates(tx, &amounts(&[]))).unwrap();
        assert_eq!(rooms[0].traits, ["CUSTOM_X"]);
    });
}
