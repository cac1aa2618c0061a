//! `cargo bench -p disk-image`: what inspecting costs an upload, and a config drive a boot.

#![allow(missing_docs)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use disk_image::config_drive;
use disk_image::inspect::Inspector;
use std::collections::BTreeMap;
use std::hint::black_box;

const CHUNK: usize = 64 * 1024;
const SIZE: usize = 64 << 20;

/// An upload streams by in chunks; the inspector should cost it next to nothing beside the checksums.
fn inspect(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("inspect");
    group.throughput(Throughput::Bytes(SIZE as u64)).sample_size(20);
    let chunk = vec![0x5a; CHUNK];
    group.bench_function("raw, 64 MiB", |bencher| {
        bencher.iter(|| {
            let mut inspector = Inspector::new();
            for _ in 0..SIZE / CHUNK {
                inspector.feed(black_box(&chunk));
            }
            inspector.finish()
        });
    });
    group.finish();
}

fn drive(criterion: &mut Criterion) {
    let files = BTreeMap::from([
        ("openstack/latest/meta_data.json".to_owned(), vec![b'm'; 1500]),
        ("openstack/latest/network_data.json".to_owned(), vec![b'n'; 1000]),
        ("openstack/latest/user_data".to_owned(), vec![b'u'; 16 * 1024]),
        ("openstack/2018-08-27/meta_data.json".to_owned(), vec![b'm'; 1500]),
        ("ec2/latest/meta-data.json".to_owned(), vec![b'e'; 500]),
    ]);
    criterion.bench_function("config drive", |bencher| {
        bencher.iter(|| config_drive::build(black_box(&files)))
    });
}

criterion_group!(benches, inspect, drive);
criterion_main!(benches);
