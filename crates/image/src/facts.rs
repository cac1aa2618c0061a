//! What other services need of images, within their own transactions.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ::api::services::{ImageFacts, NewImage};
use ::api::{Context, Error};
use database::{Direction, Tx, now};

use crate::Images;
use crate::api::rules;
use crate::model::image::{Image, Status};
use crate::model::listing::{Filter, Listing};
use crate::store::images;

fn facts(image: Image) -> ImageFacts {
    ImageFacts {
        id: image.id,
        name: image.name,
        status: image.status.as_str().to_owned(),
        owner: image.owner,
        visibility: image.visibility,
        disk_format: image.disk_format,
        container_format: image.container_format,
        size: image.size.and_then(|size| u64::try_from(size).ok()),
        virtual_size: image.virtual_size.and_then(|size| u64::try_from(size).ok()),
        min_disk: image.min_disk.unsigned_abs(),
        min_ram: image.min_ram.unsigned_abs(),
        checksum: image.checksum,
        os_hash_algo: image.os_hash_algo,
        os_hash_value: image.os_hash_value,
        protected: image.protected,
        properties: image.properties,
        tags: image.tags,
        created_at: image.created_at,
        updated_at: image.updated_at,
    }
}

impl ::api::services::Images for Images {
    fn find(&self, tx: &mut Tx<'_>, caller: &Context, id: &str) -> Result<Option<ImageFacts>, Error> {
        let caller = self.caller_of(caller);
        match images::get(tx, caller.viewer, id) {
            Ok(image) => Ok(Some(facts(image))),
            Err(crate::Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn visible(&self, tx: &mut Tx<'_>, caller: &Context) -> Result<Vec<ImageFacts>, Error> {
        let listing = Listing {
            filters: vec![Filter::Number("os_hidden", "=", 0)],
            visibility: None,
            member_status: "accepted".to_owned(),
            sort: vec![("created_at", Direction::Descending), ("id", Direction::Descending)],
            marker: None,
            limit: i64::MAX as u64,
        };
        let found = images::list(tx, self.caller_of(caller).viewer, &listing)?;
        Ok(found.into_iter().map(facts).collect())
    }

    fn data(&self, id: &str) -> Option<PathBuf> {
        self.folder.data(id)
    }

    fn create(&self, tx: &mut Tx<'_>, caller: &Context, image: &NewImage) -> Result<String, Error> {
        let at = now();
        let image = Image {
            id: uuid::Uuid::new_v4().to_string(),
            name: Some(image.name.clone()),
            status: Status::Queued,
            visibility: "private".to_owned(),
            owner: caller.project_id().map(str::to_owned),
            disk_format: image.disk_format.clone(),
            container_format: image.container_format.clone(),
            size: None,
            virtual_size: None,
            min_disk: image.min_disk as i64,
            min_ram: image.min_ram as i64,
            protected: false,
            os_hidden: false,
            checksum: None,
            os_hash_algo: None,
            os_hash_value: None,
            created_at: at,
            updated_at: at,
            properties: image.properties.clone(),
            tags: Vec::new(),
        };
        rules::may_add(self, self.caller_of(caller), &image)?;
        images::insert(tx, &image)?;
        Ok(image.id)
    }

    fn delete(&self, tx: &mut Tx<'_>, caller: &Context, id: &str) -> Result<(), Error> {
        let caller = self.caller_of(caller);
        let image = images::get(tx, caller.viewer, id)?;
        rules::enforce(self, caller, &image, "delete_image")?;
        rules::may_delete(&image)?;
        // The data goes when the transaction is known to hold: Images::sweep finds it.
        images::delete(tx, id)?;
        Ok(())
    }

    fn set_properties(
        &self,
        tx: &mut Tx<'_>,
        caller: &Context,
        id: &str,
        properties: &BTreeMap<String, String>,
        replace: bool,
    ) -> Result<(), Error> {
        let caller = self.caller_of(caller);
        let mut image = images::get(tx, caller.viewer, id)?;
        rules::enforce(self, caller, &image, "modify_image")?;
        if replace {
            image.properties.clear();
        }
        image.properties.extend(properties.clone());
        rules::property_limit(self, &image)?;
        let status = image.status;
        images::update(tx, &mut image, status)?;
        Ok(())
    }
}
