//! The rules of the Image service.

use super::{ANY, PROJECT, rule};
use crate::Rule;

/// Every rule that Image registers, the base rules first.
pub const RULES: &[Rule] = &[
    rule("default", "", ANY),
    rule("context_is_admin", "role:admin", ANY),
    rule("service_api", "role:service or role:admin", ANY),
    rule(
        "add_image",
        "rule:context_is_admin or (role:member and project_id:%(project_id)s and project_id:%(owner)s)",
        PROJECT,
    ),
    rule(
        "delete_image",
        "rule:context_is_admin or (role:member and project_id:%(project_id)s)",
        PROJECT,
    ),
    rule(
        "get_image",
        "rule:context_is_admin or (role:reader and (project_id:%(project_id)s or project_id:%(member_id)s or 'community':%(visibility)s or 'public':%(visibility)s or 'shared':%(visibility)s))",
        PROJECT,
    ),
    rule(
        "get_images",
        "rule:context_is_admin or (role:reader and project_id:%(project_id)s)",
        PROJECT,
    ),
    rule(
        "modify_image",
        "rule:context_is_admin or (role:member and project_id:%(project_id)s)",
        PROJECT,
    ),
    rule("publicize_image", "rule:context_is_admin", PROJECT),
    rule(
        "communitize_image",
        "rule:context_is_admin or (role:member and project_id:%(project_id)s)",
        PROJECT,
    ),
    rule(
        "download_image",
        "rule:context_is_admin or (role:member and (project_id:%(project_id)s or project_id:%(member_id)s or 'community':%(visibility)s or 'public':%(visibility)s or 'shared':%(visibility)s))",
        PROJECT,
    ),
    rule(
        "download_from_store",
        "rule:context_is_admin or (role:member and (project_id:%(project_id)s or project_id:%(member_id)s or 'community':%(visibility)s or 'public':%(visibility)s or 'shared':%(visibility)s))",
        PROJECT,
    ),
    rule(
        "upload_image",
        "rule:context_is_admin or (role:member and project_id:%(project_id)s)",
        PROJECT,
    ),
    rule("delete_image_location", "rule:context_is_admin", PROJECT),
    rule(
        "get_image_location",
        "rule:context_is_admin or (role:reader and project_id:%(project_id)s)",
        PROJECT,
    ),
    rule(
        "set_image_location",
        "rule:context_is_admin or (role:member and project_id:%(project_id)s)",
        PROJECT,
    ),
    rule(
        "add_image_location",
        "rule:service_api or (role:member and project_id:%(project_id)s and project_id:%(owner)s)",
        PROJECT,
    ),
    rule("fetch_image_location", "rule:service_api", PROJECT),
    rule(
        "add_member",
        "rule:context_is_admin or (role:member and project_id:%(project_id)s)",
        PROJECT,
    ),
    rule(
        "delete_member",
        "rule:context_is_admin or (role:member and project_id:%(project_id)s)",
        PROJECT,
    ),
    rule(
        "get_member",
        "rule:context_is_admin or role:reader and (project_id:%(project_id)s or project_id:%(member_id)s)",
        PROJECT,
    ),
    rule(
        "get_members",
        "rule:context_is_admin or role:reader and (project_id:%(project_id)s or project_id:%(member_id)s)",
        PROJECT,
    ),
    rule(
        "modify_member",
        "rule:context_is_admin or (role:member and project_id:%(member_id)s)",
        PROJECT,
    ),
    rule("manage_image_cache", "rule:context_is_admin", PROJECT),
    rule(
        "deactivate",
        "rule:context_is_admin or (role:member and project_id:%(project_id)s)",
        PROJECT,
    ),
    rule(
        "reactivate",
        "rule:context_is_admin or (role:member and project_id:%(project_id)s)",
        PROJECT,
    ),
    rule("copy_image", "rule:context_is_admin", PROJECT),
    rule("list_cached_nodes", "rule:context_is_admin", PROJECT),
    rule("get_task", "rule:default", PROJECT),
    rule("get_tasks", "rule:default", PROJECT),
    rule("add_task", "rule:default", PROJECT),
    rule("modify_task", "rule:default", PROJECT),
    rule("tasks_api_access", "rule:context_is_admin", PROJECT),
    rule("metadef_default", "", ANY),
    rule("metadef_admin", "rule:context_is_admin", ANY),
    rule(
        "get_metadef_namespace",
        "rule:context_is_admin or (role:reader and (project_id:%(project_id)s or 'public':%(visibility)s))",
        PROJECT,
    ),
    rule(
        "get_metadef_namespaces",
        "rule:context_is_admin or (role:reader and project_id:%(project_id)s)",
        PROJECT,
    ),
    rule("modify_metadef_namespace", "rule:metadef_admin", PROJECT),
    rule("add_metadef_namespace", "rule:metadef_admin", PROJECT),
    rule("delete_metadef_namespace", "rule:metadef_admin", PROJECT),
    rule(
        "get_metadef_object",
        "rule:context_is_admin or (role:reader and (project_id:%(project_id)s or 'public':%(visibility)s))",
        PROJECT,
    ),
    rule(
        "get_metadef_objects",
        "rule:context_is_admin or (role:reader and (project_id:%(project_id)s or 'public':%(visibility)s))",
        PROJECT,
    ),
    rule("modify_metadef_object", "rule:metadef_admin", PROJECT),
    rule("add_metadef_object", "rule:metadef_admin", PROJECT),
    rule("delete_metadef_object", "rule:metadef_admin", PROJECT),
    rule(
        "list_metadef_resource_types",
        "rule:context_is_admin or (role:reader and (project_id:%(project_id)s or 'public':%(visibility)s))",
        PROJECT,
    ),
    rule(
        "get_metadef_resource_type",
        "rule:context_is_admin or (role:reader and (project_id:%(project_id)s or 'public':%(visibility)s))",
        PROJECT,
    ),
    rule("add_metadef_resource_type_association", "rule:metadef_admin", PROJECT),
    rule(
        "remove_metadef_resource_type_association",
        "rule:metadef_admin",
        PROJECT,
    ),
    rule(
        "get_metadef_property",
        "rule:context_is_admin or (role:reader and (project_id:%(project_id)s or 'public':%(visibility)s))",
        PROJECT,
    ),
    rule(
        "get_metadef_properties",
        "rule:context_is_admin or (role:reader and (project_id:%(project_id)s or 'public':%(visibility)s))",
        PROJECT,
    ),
    rule("modify_metadef_property", "rule:metadef_admin", PROJECT),
    rule("add_metadef_property", "rule:metadef_admin", PROJECT),
    rule("remove_metadef_property", "rule:metadef_admin", PROJECT),
    rule(
        "get_metadef_tag",
        "rule:context_is_admin or (role:reader and (project_id:%(project_id)s or 'public':%(visibility)s))",
        PROJECT,
    ),
    rule(
        "get_metadef_tags",
        "rule:context_is_admin or (role:reader and (project_id:%(project_id)s or 'public':%(visibility)s))",
        PROJECT,
    ),
    rule("modify_metadef_tag", "rule:metadef_admin", PROJECT),
    rule("add_metadef_tag", "rule:metadef_admin", PROJECT),
    rule("add_metadef_tags", "rule:metadef_admin", PROJECT),
    rule("delete_metadef_tag", "rule:metadef_admin", PROJECT),
    rule("delete_metadef_tags", "rule:metadef_admin", PROJECT),
    rule("cache_image", "rule:context_is_admin", PROJECT),
    rule("cache_list", "rule:context_is_admin", PROJECT),
    rule("cache_delete", "rule:context_is_admin", PROJECT),
    rule("cache_clean", "rule:context_is_admin", PROJECT),
    rule("cache_prune", "rule:context_is_admin", PROJECT),
    rule(
        "stores_info_detail",
        "rule:context_is_admin or rule:service_api",
        PROJECT,
    ),
];
