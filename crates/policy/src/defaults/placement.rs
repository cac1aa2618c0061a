//! The rules of the Placement service.

use super::{ANY, PROJECT, rule};
use crate::Rule;

/// Every rule that Placement registers, the base rules first.
pub const RULES: &[Rule] = &[
    rule("admin_api", "role:admin", PROJECT),
    rule("service_api", "role:service", PROJECT),
    rule("admin_or_service_api", "role:admin or role:service", PROJECT),
    rule("project_reader_api", "role:reader and project_id:%(project_id)s", ANY),
    rule(
        "admin_or_project_reader_or_service_api",
        "role:admin or rule:project_reader_api or role:service",
        PROJECT,
    ),
    rule(
        "placement:resource_providers:list",
        "rule:admin_or_service_api",
        PROJECT,
    ),
    rule(
        "placement:resource_providers:create",
        "rule:admin_or_service_api",
        PROJECT,
    ),
    rule(
        "placement:resource_providers:show",
        "rule:admin_or_service_api",
        PROJECT,
    ),
    rule(
        "placement:resource_providers:update",
        "rule:admin_or_service_api",
        PROJECT,
    ),
    rule(
        "placement:resource_providers:delete",
        "rule:admin_or_service_api",
        PROJECT,
    ),
    rule("placement:resource_classes:list", "rule:admin_or_service_api", PROJECT),
    rule(
        "placement:resource_classes:create",
        "rule:admin_or_service_api",
        PROJECT,
    ),
    rule("placement:resource_classes:show", "rule:admin_or_service_api", PROJECT),
    rule(
        "placement:resource_classes:update",
        "rule:admin_or_service_api",
        PROJECT,
    ),
    rule(
        "placement:resource_classes:delete",
        "rule:admin_or_service_api",
        PROJECT,
    ),
    rule(
        "placement:resource_providers:inventories:list",
        "rule:admin_or_service_api",
        PROJECT,
    ),
    rule(
        "placement:resource_providers:inventories:create",
        "rule:admin_or_service_api",
        PROJECT,
    ),
    rule(
        "placement:resource_providers:inventories:show",
        "rule:admin_or_service_api",
        PROJECT,
    ),
    rule(
        "placement:resource_providers:inventories:update",
        "rule:admin_or_service_api",
        PROJECT,
    ),
    rule(
        "placement:resource_providers:inventories:delete",
        "rule:admin_or_service_api",
        PROJECT,
    ),
    rule(
        "placement:resource_providers:aggregates:list",
        "rule:admin_or_service_api",
        PROJECT,
    ),
    rule(
        "placement:resource_providers:aggregates:update",
        "rule:admin_or_service_api",
        PROJECT,
    ),
    rule(
        "placement:resource_providers:usages",
        "rule:admin_or_service_api",
        PROJECT,
    ),
    rule(
        "placement:usages",
        "rule:admin_or_project_reader_or_service_api",
        PROJECT,
    ),
    rule("placement:traits:list", "rule:admin_or_service_api", PROJECT),
    rule("placement:traits:show", "rule:admin_or_service_api", PROJECT),
    rule("placement:traits:update", "rule:admin_or_service_api", PROJECT),
    rule("placement:traits:delete", "rule:admin_or_service_api", PROJECT),
    rule(
        "placement:resource_providers:traits:list",
        "rule:admin_or_service_api",
        PROJECT,
    ),
    rule(
        "placement:resource_providers:traits:update",
        "rule:admin_or_service_api",
        PROJECT,
    ),
    rule(
        "placement:resource_providers:traits:delete",
        "rule:admin_or_service_api",
        PROJECT,
    ),
    rule("placement:allocations:manage", "rule:admin_or_service_api", PROJECT),
    rule("placement:allocations:list", "rule:admin_or_service_api", PROJECT),
    rule("placement:allocations:update", "rule:admin_or_service_api", PROJECT),
    rule("placement:allocations:delete", "rule:admin_or_service_api", PROJECT),
    rule(
        "placement:resource_providers:allocations:list",
        "rule:admin_or_service_api",
        PROJECT,
    ),
    rule(
        "placement:allocation_candidates:list",
        "rule:admin_or_service_api",
        PROJECT,
    ),
    rule("placement:reshaper:reshape", "rule:service_api", PROJECT),
];
