//! Identity providers.

use crate::store::{Ref, federation, new_id, projects, text};
use crate::{Error, Identity, Result};
use database::Tx;
use serde_json::json;

impl Identity {
    /// Adds an identity provider, with a domain of its own where none is given.
    pub(crate) fn create_identity_provider(&self, tx: &mut Tx<'_>, mut provider: Ref) -> Result<Ref> {
        let id = text(&provider, "id").to_owned();
        if federation::PROVIDERS.find(tx, "id = ?1", &[(&id).into()])?.is_some() {
            return Err(Error::Conflict {
                what: "identity_provider",
                details: format!("Duplicate entry: {id}"),
            });
        }
        let domain = text(&provider, "domain_id").to_owned();
        if domain.is_empty() {
            let domain_id = new_id();
            let domain = json!({
                "id": domain_id,
                "name": domain_id,
                "description": format!("Auto generated federated domain for Identity Provider: {id}"),
                "enabled": true,
            });
            self.create_domain(tx, domain.as_object().cloned().unwrap_or_default())?;
            provider.insert("domain_id".into(), domain_id.into());
        } else {
            projects::get_domain(tx, &domain)?;
        }
        federation::insert_provider(tx, &provider)
    }

    /// # Errors
    /// 400 where a protocol's mapping is not there.
    pub(crate) fn check_mapping(&self, tx: &mut Tx<'_>, id: &str) -> Result<()> {
        match federation::MAPPINGS.get(tx, id) {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Err(Error::Invalid(format!("Invalid mapping id: {id}"))),
            Err(error) => Err(error),
        }
    }
}
