//! What can go wrong in Placement, with upstream's texts.

/// An error of the domain; the API turns it into a status and a code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The storage failed.
    #[error(transparent)]
    Database(#[from] database::Error),
    /// No provider has the UUID.
    #[error("No resource provider with uuid {0} found")]
    ProviderNotFound(String),
    /// No resource class has the name.
    #[error("No such resource class {0}.")]
    ResourceClassNotFound(String),
    /// No trait has the name.
    #[error("No such trait(s): {0}.")]
    TraitNotFound(String),
    /// The provider has no inventory of the class.
    #[error("No inventory of class {0} found.")]
    InventoryNotFound(String),
    /// The provider has no inventory of the class that was to be deleted.
    #[error("No inventory of class {0} found for delete")]
    InventoryNotFoundForDelete(String),
    /// Something uses the inventory.
    #[error("Inventory for '{classes}' on resource provider '{provider}' in use.")]
    InventoryInUse {
        /// Names of the classes, separated by commas.
        classes: String,
        /// UUID of the provider.
        provider: String,
    },
    /// The provider has no inventory that the allocation needs.
    #[error("Inventory for '{class}' on resource provider '{provider}' invalid.")]
    InvalidInventory {
        /// Name of the class or classes.
        class: String,
        /// UUID of the provider.
        provider: String,
    },
    /// There is not enough left.
    #[error(
        "Unable to create allocation for '{class}' on resource provider '{provider}'. The requested amount would exceed \
         the capacity."
    )]
    CapacityExceeded {
        /// Name of the class.
        class: String,
        /// UUID of the provider.
        provider: String,
    },
    /// The amount does not obey `min_unit`, `max_unit` and `step_size`.
    #[error(
        "Unable to create allocation for '{class}' on resource provider '{provider}'. The requested amount would violate \
         inventory constraints."
    )]
    ConstraintsViolated {
        /// Name of the class.
        class: String,
        /// UUID of the provider.
        provider: String,
    },
    /// A provider with children is to stay.
    #[error("Cannot delete resource provider that is a parent of another. Delete child providers first.")]
    ProviderHasChildren,
    /// A provider with allocations is to stay.
    #[error("Resource provider has allocations.")]
    ProviderInUse,
    /// Another provider has the name or the UUID.
    #[error("Conflicting resource provider {0} already exists.")]
    ProviderExists(String),
    /// The tree would not be one.
    #[error("Object action {action} failed because: {reason}")]
    ObjectAction {
        /// `create` or `update`.
        action: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// The resource class is there already.
    #[error("Resource class {0} already exists.")]
    ResourceClassExists(String),
    /// A provider has inventory of the class.
    #[error("Cannot delete resource class {0}. Class is in use in inventory.")]
    ResourceClassInUse(String),
    /// The class is not the user's.
    #[error("Cannot delete standard resource class {0}.")]
    ResourceClassStandard(String),
    /// A provider has the trait.
    #[error("The trait {0} is in use by a resource provider.")]
    TraitInUse(String),
    /// The trait is not the user's.
    #[error("Cannot delete standard trait {0}.")]
    TraitStandard(String),
    /// The consumer is not in the state its user believes.
    #[error("consumer generation conflict - expected {expected} but got {got}")]
    ConsumerGeneration {
        /// The consumer's generation, or `null` where there is no consumer.
        expected: String,
        /// What was given.
        got: String,
    },
}

impl Error {
    /// Whether an object that was named is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(
            self,
            Error::ProviderNotFound(_)
                | Error::ResourceClassNotFound(_)
                | Error::TraitNotFound(_)
                | Error::InventoryNotFound(_)
                | Error::InventoryNotFoundForDelete(_)
        )
    }

    /// Whether an allocation does not fit.
    pub fn is_invalid_inventory(&self) -> bool {
        matches!(
            self,
            Error::InvalidInventory { .. } | Error::CapacityExceeded { .. } | Error::ConstraintsViolated { .. }
        )
    }
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
