//! The storage of records, on both databases.

use std::sync::Arc;

use api::services::{Images as _, NewImage};
use api::{Context, Query};
use database::testing::on_both;
use image::Image;
use image::model::Limits;
use image::model::image::Status;
use image::model::listing::Listing;
use image::store::images::{self, Viewer};
use image::store::{members, metadefs, tasks};

fn with_images(test: impl Fn(&database::Database, Arc<Image>)) {
    on_both(&[image::MIGRATIONS], |database| {
        let folder = tempfile::tempdir().unwrap();
        let config = image::Config {
            folder: folder.path().to_owned(),
            ..image::Config::default()
        };
        test(&database, Image::new(database.clone(), config, None).unwrap());
    });
}

#[test]
fn every_filter_and_sort_key_works_and_pages_join() {
    with_images(|database, service| {
        let caller = Context::internal_for("p");
        for name in ["a", "b", "c"] {
            let image = NewImage {
                name: name.into(),
                properties: [("k".into(), name.into())].into(),
                ..NewImage::default()
            };
            database.write(|tx| service.create(tx, &caller, &image)).unwrap();
        }
        let viewer = Viewer {
            project: Some("p"),
            admin: false,
        };
        let names = |query: &str| -> Vec<String> {
            let listing = Listing::parse(&Query::parse(query), &Limits::default()).unwrap();
            let found = database.read(|tx| images::list(tx, viewer, &listing)).unwrap();
            found.into_iter().filter_map(|image| image.name).collect()
        };
        assert_eq!(names("sort=name:asc"), ["a", "b", "c"]);
        for key in [
            "status",
            "container_format",
            "disk_format",
            "size",
            "id",
            "created_at",
            "updated_at",
        ] {
            assert_eq!(names(&format!("sort={key}:desc,name:asc")).len(), 3, "{key}");
        }
        for query in [
            "k=b",
            "name=in:b,x&size_min=0&size_max=1",
            "status=active",
            "created_at=gte:2020-01-01T00:00:00Z&min_ram=0&protected=false&tag=x",
            "owner=p&visibility=private&updated_at=neq:2020-01-01T00:00:00Z",
        ] {
            names(query);
        }
        assert_eq!(names("k=b"), ["b"]);
        let listing = Listing::parse(&Query::parse("limit=2&sort=size:asc,name:asc"), &Limits::default()).unwrap();
        let first = database.read(|tx| images::list(tx, viewer, &listing)).unwrap();
        let listing = Listing {
            marker: Some(first[1].id.clone()),
            ..listing
        };
        let second = database.read(|tx| images::list(tx, viewer, &listing)).unwrap();
        assert_eq!(
            (first.len(), second.len(), second[0].name.as_deref()),
            (2, 1, Some("c"))
        );
    });
}

#[test]
fn a_change_from_a_state_that_is_over_does_nothing() {
    with_images(|database, service| {
        let caller = Context::internal_for("p");
        let new = NewImage {
            name: "a".into(),
            ..NewImage::default()
        };
        let id = database.write(|tx| service.create(tx, &caller, &new)).unwrap();
        let changed = database.write(|tx| {
            let mut image = images::find(tx, &id)?.unwrap();
            image.status = Status::Active;
            let late = images::update(tx, &mut image, Status::Saving)?;
            let good = images::update(tx, &mut image, Status::Queued)?;
            Ok::<_, image::Error>((late, good))
        });
        assert_eq!(changed.unwrap(), (false, true));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(&id);
        std::fs::write(&file, b"x").unwrap();
        let config = || image::Config {
            folder: folder.path().to_owned(),
            ..image::Config::default()
        };
        Image::new(database.clone(), config(), None).unwrap();
        assert!(file.exists(), "data of a living image stays");
        database.write(|tx| service.delete(tx, &caller, &id)).unwrap();
        Image::new(database.clone(), config(), None).unwrap();
        assert!(!file.exists(), "data of a deleted image goes");
        assert!(database.read(|tx| service.find(tx, &caller, &id)).unwrap().is_none());
    });
}

#[test]
fn shared_images_are_found_by_their_members() {
    with_images(|database, service| {
        let (owner, other) = (
            Context::internal_for("p"),
            Viewer {
                project: Some("q"),
                admin: false,
            },
        );
        let id = database
            .write(|tx| service.create(tx, &owner, &NewImage::default()))
            .unwrap();
        database
            .write(|tx| {
                let mut image = images::find(tx, &id)?.unwrap();
                image.visibility = "shared".into();
                images::update(tx, &mut image, Status::Queued)?;
                assert!(images::get(tx, other, &id).is_err());
                let mut member = members::insert(tx, &id, "q")?;
                assert!(images::get(tx, other, &id).is_ok());
                members::set_status(tx, &mut member, "accepted")?;
                assert_eq!(members::list(tx, &id)?.len(), 1);
                members::delete(tx, &id, "q")?;
                assert!(images::get(tx, other, &id).is_err());
                assert_eq!(images::usage(tx, "p")?, (1, 0));
                assert_eq!((images::staged(tx, "p")?, images::uploading(tx, "p")?), (0, 0));
                Ok::<_, image::Error>(())
            })
            .unwrap();
    });
}

#[test]
fn definitions_and_tasks_are_kept() {
    with_images(|database, _| {
        let viewer = Viewer {
            project: Some("p"),
            admin: false,
        };
        database
            .write(|tx| {
                let mut namespace = metadefs::Namespace {
                    id: 0,
                    namespace: "n".into(),
                    display_name: None,
                    description: None,
                    visibility: "public".into(),
                    protected: false,
                    owner: Some("p".into()),
                    created_at: 1,
                    updated_at: 1,
                };
                assert!(metadefs::insert(tx, &mut namespace)?);
                assert!(!metadefs::insert(tx, &mut namespace.clone())?);
                let document = serde_json::Map::new();
                metadefs::insert_entry(tx, metadefs::Kind::Object, &namespace, "o", &document)?.unwrap();
                assert!(metadefs::insert_entry(tx, metadefs::Kind::Object, &namespace, "o", &document)?.is_none());
                let listing = metadefs::Listing {
                    visibility: Some("public".into()),
                    resource_types: None,
                    sort_key: "namespace",
                    direction: database::Direction::Ascending,
                    marker: Some(metadefs::Namespace {
                        namespace: "m".into(),
                        ..namespace.clone()
                    }),
                    limit: 5,
                };
                assert_eq!(metadefs::list(tx, viewer, &listing)?.len(), 1);
                metadefs::delete(tx, &namespace)?;
                let task = tasks::Task {
                    id: "t".into(),
                    kind: "api_image_import".into(),
                    status: "processing".into(),
                    owner: Some("p".into()),
                    image_id: None,
                    request_id: None,
                    user_id: None,
                    input: serde_json::json!({}),
                    result: serde_json::Value::Null,
                    message: String::new(),
                    expires_at: None,
                    created_at: 1,
                    updated_at: 1,
                };
                task.insert(tx)?;
                assert_eq!(tasks::unfinished(tx)?.len(), 1);
                tasks::finish(tx, "t", "success", &serde_json::json!({"image_id": "i"}), "")?;
                assert_eq!(tasks::unfinished(tx)?.len(), 0);
                let listing = tasks::Listing {
                    filters: vec![("status", "success".into())],
                    sort_key: "created_at",
                    direction: database::Direction::Descending,
                    marker: None,
                    limit: 5,
                };
                assert_eq!(tasks::list(tx, viewer, &listing)?.len(), 1);
                Ok::<_, image::Error>(())
            })
            .unwrap();
    });
}
