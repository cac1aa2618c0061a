//! What every way in — API and bootstrap alike — does to Identity's objects: the rules, then the writes, in the caller's transaction.

mod catalog;
mod federation;
mod projects;
mod roles;
mod users;

use crate::store::revocations::{self, Event};
use crate::{Identity, Result};
use database::Tx;

impl Identity {
    /// Records that tokens are no longer good; the event is kept as long as one of them could live.
    pub(crate) fn revoke(&self, tx: &mut Tx<'_>, event: Event<'_>) -> Result<()> {
        let keep = (self.config.token_expiration + self.config.allow_expired_window + 1800) * 1_000_000;
        revocations::record(tx, event, keep)
    }

    /// [`Identity::revoke`] for all tokens of a user.
    pub(crate) fn revoke_user(&self, tx: &mut Tx<'_>, user_id: &str) -> Result<()> {
        self.revoke(
            tx,
            Event {
                user_id: Some(user_id),
                ..Event::default()
            },
        )
    }
}
