//! What the rest of the house relies on, on SQLite and on PostgreSQL.

use database::{Database, Direction, Error, Feed, Migration, Select, Value, params, testing::on_both};

const SCHEMA: &[Migration] = &[Migration {
    service: "test",
    version: 1,
    name: "pets",
    sql: "CREATE TABLE pets (id {{serial}}, name TEXT NOT NULL UNIQUE, legs BIGINT, photo BLOB);
          CREATE TABLE toys (name TEXT PRIMARY KEY, pet TEXT NOT NULL REFERENCES pets (name));",
}];

fn add(db: &Database, name: &str, legs: Option<i64>) -> Result<u64, Error> {
    db.write(|tx| tx.execute("INSERT INTO pets (name, legs) VALUES (?1, ?2)", &params![name, legs]))
}

#[test]
fn constraints_are_told_apart() {
    on_both(&[SCHEMA], |db| {
        add(&db, "ant", Some(6)).unwrap();
        let again = add(&db, "ant", Some(6)).unwrap_err();
        assert!(again.is_unique("pets"), "{again}");
        assert!(!again.is_unique("toys"));
        let orphan = db.write(|tx| tx.execute("INSERT INTO toys (name, pet) VALUES ('ball', 'nobody')", &[])).unwrap_err();
        assert!(matches!(orphan, Error::ForeignKey { .. }), "{orphan}");
    });
}

#[test]
fn an_error_rolls_everything_back_and_a_savepoint_only_itself() {
    on_both(&[SCHEMA], |db| {
        let failed: Result<(), Error> = db.write(|tx| {
            tx.execute("INSERT INTO pets (name) VALUES ('ghost')", &[])?;
            Err(Error::Commit("on purpose".into()))
        });
        assert!(failed.is_err());
        db.write(|tx| {
            tx.execute("INSERT INTO pets (name) VALUES ('cat')", &[])?;
            let second = tx.savepoint(|tx| tx.execute("INSERT INTO pets (name) VALUES ('cat')", &[]));
            assert!(second.is_err());
            tx.execute("INSERT INTO pets (name) VALUES ('dog')", &[])
        })
        .unwrap();
        let names: Vec<String> = db.read(|tx| tx.column("SELECT name FROM pets ORDER BY name", &[])).unwrap();
        assert_eq!(names, ["cat", "dog"]);
    });
}

#[test]
fn values_come_back_as_they_went_in() {
    on_both(&[SCHEMA], |db| {
        let photo = vec![0_u8, 1, 255];
        db.write(|tx| tx.execute("INSERT INTO pets (name, photo) VALUES (?2, ?1)", &params![photo.clone(), "bee's"])).unwrap();
        let row = db.read(|tx| tx.query_one("SELECT name, legs, photo FROM pets", &[])).unwrap().unwrap();
        assert_eq!(row.named::<String>("name").unwrap(), "bee's");
        assert_eq!(row.get::<Option<i64>>(1).unwrap(), None);
        assert_eq!(row.get::<Vec<u8>>(2).unwrap(), photo);
        assert!(row.get::<i64>(0).is_err());
        let found: i64 = db.read(|tx| tx.scalar("SELECT COUNT(*) FROM pets WHERE name REGEXP ?1", &params!["^be+'s$"])).unwrap().unwrap();
        assert_eq!(found, 1);
    });
}

#[test]
fn pages_cover_a_list_once_with_nulls_and_ties() {
    on_both(&[SCHEMA], |db| {
        for (name, legs) in [("a", Some(4)), ("b", None), ("c", Some(4)), ("d", Some(8)), ("e", None), ("f", Some(0))] {
            add(&db, name, legs).unwrap();
        }
        for direction in [Direction::Ascending, Direction::Descending] {
            let list = |marker: Option<Vec<Value>>, limit: u64| {
                let mut q = Select::new("legs, name", "pets");
                q.order("legs", direction).order("name", Direction::Ascending).limit(limit);
                if let Some(marker) = marker {
                    q.after(&marker);
                }
                db.read(|tx| q.rows(tx)).unwrap()
            };
            let whole: Vec<String> = list(None, 100).iter().map(|r| r.get(1).unwrap()).collect();
            let mut paged = Vec::new();
            let mut marker = None;
            loop {
                let page = list(marker, 2);
                let Some(last) = page.last() else { break };
                marker = Some(vec![last.value(0).clone(), last.value(1).clone()]);
                paged.extend(page.iter().map(|r| r.get::<String>(1).unwrap()));
            }
            assert_eq!(paged, whole);
            assert_eq!(paged.len(), 6);
        }
    });
}

#[test]
fn the_feed_has_committed_changes_in_order_and_nothing_else() {
    on_both(&[SCHEMA], |db| {
        let mut woken = db.feed().subscribe();
        let start = db.read(Feed::latest).unwrap();
        db.write(|tx| {
            tx.changed("pet", "ant");
            tx.changed("pet", "ant");
            Ok::<_, Error>(())
        })
        .unwrap();
        let _ = db.write(|tx| {
            tx.changed("pet", "ghost");
            Err::<(), _>(Error::Commit("on purpose".into()))
        });
        db.write(|tx| {
            tx.changed("toy", "ball");
            Ok::<_, Error>(())
        })
        .unwrap();
        assert!(woken.has_changed().unwrap());
        woken.mark_unchanged();
        let seen = db.read(|tx| Feed::since(tx, start)).unwrap().unwrap();
        let keys: Vec<_> = seen.iter().map(|c| (c.topic.as_str(), c.key.as_str())).collect();
        assert_eq!(keys, [("pet", "ant"), ("toy", "ball")]);
        assert!(seen[0].sequence < seen[1].sequence);
    });
}

#[test]
fn concurrent_writers_lose_nothing() {
    on_both(&[SCHEMA], |db| {
        add(&db, "ant", Some(0)).unwrap();
        std::thread::scope(|s| {
            for _ in 0..8 {
                s.spawn(|| {
                    for _ in 0..25 {
                        db.write(|tx| {
                            let legs: i64 = tx.scalar("SELECT legs FROM pets WHERE name = 'ant'", &[])?.unwrap_or(0);
                            tx.execute("UPDATE pets SET legs = ?1 WHERE name = 'ant'", &params![legs + 1])
                        })
                        .unwrap();
                    }
                });
            }
        });
        let legs: i64 = db.read(|tx| tx.scalar("SELECT legs FROM pets", &[])).unwrap().unwrap();
        assert_eq!(legs, 200);
    });
}

#[test]
fn a_reader_does_not_write() {
    on_both(&[SCHEMA], |db| {
        assert!(db.read(|tx| tx.execute("INSERT INTO pets (name) VALUES ('x')", &[])).is_err());
        assert_eq!(db.check().unwrap(), Vec::<String>::new());
    });
}

#[test]
fn a_migration_that_changed_after_it_ran_is_refused() {
    on_both(&[SCHEMA], |db| {
        db.migrate(&[SCHEMA]).unwrap();
        let edited = [Migration { sql: "CREATE TABLE pets (id {{serial}})", ..SCHEMA[0] }];
        assert!(matches!(db.migrate(&[&edited]), Err(Error::Migration { .. })));
    });
}
