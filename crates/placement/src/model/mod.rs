//! Domain types and rules, without I/O.

pub mod candidates;
pub mod request;

/// Resource classes every deployment has, in the order upstream numbers them.
pub const STANDARD_RESOURCE_CLASSES: &[&str] = &[
    "VCPU",
    "MEMORY_MB",
    "DISK_GB",
    "PCI_DEVICE",
    "SRIOV_NET_VF",
    "NUMA_SOCKET",
    "NUMA_CORE",
    "NUMA_THREAD",
    "NUMA_MEMORY_MB",
    "IPV4_ADDRESS",
    "VGPU",
    "VGPU_DISPLAY_HEAD",
    "NET_BW_EGR_KILOBIT_PER_SEC",
    "NET_BW_IGR_KILOBIT_PER_SEC",
    "PCPU",
    "MEM_ENCRYPTION_CONTEXT",
    "FPGA",
    "PGPU",
    "NET_PACKET_RATE_KILOPACKET_PER_SEC",
    "NET_PACKET_RATE_EGR_KILOPACKET_PER_SEC",
    "NET_PACKET_RATE_IGR_KILOPACKET_PER_SEC",
];

/// What users may name themselves, traits and resource classes alike, begins so.
pub const CUSTOM_PREFIX: &str = "CUSTOM_";

/// Its provider offers its inventory to all members of its aggregates.
pub const SHARES_VIA_AGGREGATE: &str = "MISC_SHARES_VIA_AGGREGATE";

/// Largest value of an integer in an inventory.
pub const MAX_INT: i64 = 2_147_483_647;

/// Traits every deployment has (the list of the os-traits library).
pub fn standard_traits() -> impl Iterator<Item = &'static str> {
    include_str!("standard_traits.txt").lines()
}

/// What a provider has of one resource class.
#[derive(Debug, Clone, PartialEq)]
pub struct Inventory {
    /// The class.
    pub resource_class: String,
    /// All there is.
    pub total: i64,
    /// Kept back from allocation.
    pub reserved: i64,
    /// Least amount of one allocation.
    pub min_unit: i64,
    /// Largest amount of one allocation.
    pub max_unit: i64,
    /// Amounts are multiples of this.
    pub step_size: i64,
    /// How often the resource may be promised.
    pub allocation_ratio: f64,
}

impl Inventory {
    /// An inventory with upstream's defaults for all but the total.
    pub fn new(resource_class: impl Into<String>, total: i64) -> Inventory {
        Inventory {
            resource_class: resource_class.into(),
            total,
            reserved: 0,
            min_unit: 1,
            max_unit: MAX_INT,
            step_size: 1,
            allocation_ratio: 1.0,
        }
    }

    /// What can be allocated in all.
    pub fn capacity(&self) -> i64 {
        ((self.total - self.reserved) as f64 * self.allocation_ratio) as i64
    }

    /// Whether one more allocation of `amount` is possible beside `used`.
    pub fn has_room(&self, used: i64, amount: i64) -> bool {
        (used + amount) as f64 <= (self.total - self.reserved) as f64 * self.allocation_ratio && self.allows(amount)
    }

    /// Whether an allocation may have this size.
    pub fn allows(&self, amount: i64) -> bool {
        amount >= self.min_unit && amount <= self.max_unit && amount % self.step_size == 0
    }
}
