-- Domains are projects with is_domain = 1 and an empty domain_id.
CREATE TABLE identity_projects (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, domain_id TEXT NOT NULL, description TEXT, enabled BIGINT NOT NULL,
    parent_id TEXT REFERENCES identity_projects (id), is_domain BIGINT NOT NULL, options TEXT NOT NULL, extra TEXT NOT NULL,
    UNIQUE (domain_id, name)
);
CREATE INDEX identity_projects_parent ON identity_projects (parent_id);
CREATE TABLE identity_project_tags (
    project_id TEXT NOT NULL REFERENCES identity_projects (id) ON DELETE CASCADE, name TEXT NOT NULL, position BIGINT NOT NULL,
    PRIMARY KEY (project_id, name)
);
CREATE INDEX identity_project_tags_name ON identity_project_tags (name);

CREATE TABLE identity_users (
    id TEXT PRIMARY KEY, domain_id TEXT NOT NULL, name TEXT NOT NULL, enabled BIGINT NOT NULL, default_project_id TEXT,
    options TEXT NOT NULL, extra TEXT NOT NULL, created_at BIGINT NOT NULL, last_active_at BIGINT,
    failed_auth_count BIGINT NOT NULL, failed_auth_at BIGINT,
    UNIQUE (domain_id, name)
);
CREATE INDEX identity_users_default_project ON identity_users (default_project_id);
CREATE TABLE identity_passwords (
    id {{serial}}, user_id TEXT NOT NULL REFERENCES identity_users (id) ON DELETE CASCADE, hash TEXT,
    created_at BIGINT NOT NULL, expires_at BIGINT, self_service BIGINT NOT NULL
);
CREATE INDEX identity_passwords_user ON identity_passwords (user_id);
CREATE TABLE identity_groups (
    id TEXT PRIMARY KEY, domain_id TEXT NOT NULL, name TEXT NOT NULL, description TEXT, extra TEXT NOT NULL,
    UNIQUE (domain_id, name)
);
CREATE TABLE identity_memberships (
    user_id TEXT NOT NULL REFERENCES identity_users (id) ON DELETE CASCADE,
    group_id TEXT NOT NULL REFERENCES identity_groups (id) ON DELETE CASCADE,
    PRIMARY KEY (user_id, group_id)
);
CREATE INDEX identity_memberships_group ON identity_memberships (group_id);

-- Global roles have an empty domain_id.
CREATE TABLE identity_roles (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, domain_id TEXT NOT NULL, description TEXT, options TEXT NOT NULL, extra TEXT NOT NULL,
    UNIQUE (name, domain_id)
);
CREATE TABLE identity_implied_roles (
    prior_role_id TEXT NOT NULL REFERENCES identity_roles (id) ON DELETE CASCADE,
    implied_role_id TEXT NOT NULL REFERENCES identity_roles (id) ON DELETE CASCADE,
    PRIMARY KEY (prior_role_id, implied_role_id)
);
-- kind: UserProject, GroupProject, UserDomain, GroupDomain, UserSystem, GroupSystem. Actors may live in another back end: no foreign key.
CREATE TABLE identity_assignments (
    kind TEXT NOT NULL, actor_id TEXT NOT NULL, target_id TEXT NOT NULL, role_id TEXT NOT NULL REFERENCES identity_roles (id) ON DELETE CASCADE,
    inherited BIGINT NOT NULL,
    PRIMARY KEY (actor_id, target_id, kind, role_id, inherited)
);
CREATE INDEX identity_assignments_target ON identity_assignments (target_id);
CREATE INDEX identity_assignments_role ON identity_assignments (role_id);

CREATE TABLE identity_regions (id TEXT PRIMARY KEY, description TEXT NOT NULL, parent_region_id TEXT, extra TEXT NOT NULL);
CREATE TABLE identity_services (
    id TEXT PRIMARY KEY, type TEXT, name TEXT, enabled BIGINT NOT NULL, extra TEXT NOT NULL
);
CREATE TABLE identity_endpoints (
    id TEXT PRIMARY KEY, interface TEXT NOT NULL, region_id TEXT REFERENCES identity_regions (id),
    service_id TEXT NOT NULL REFERENCES identity_services (id) ON DELETE CASCADE, url TEXT NOT NULL, enabled BIGINT NOT NULL, extra TEXT NOT NULL
);
CREATE INDEX identity_endpoints_service ON identity_endpoints (service_id);
CREATE TABLE identity_project_endpoints (
    endpoint_id TEXT NOT NULL REFERENCES identity_endpoints (id) ON DELETE CASCADE,
    project_id TEXT NOT NULL REFERENCES identity_projects (id) ON DELETE CASCADE,
    PRIMARY KEY (endpoint_id, project_id)
);
CREATE INDEX identity_project_endpoints_project ON identity_project_endpoints (project_id);
CREATE TABLE identity_endpoint_groups (id TEXT PRIMARY KEY, name TEXT NOT NULL, description TEXT, filters TEXT NOT NULL);
CREATE TABLE identity_project_endpoint_groups (
    endpoint_group_id TEXT NOT NULL REFERENCES identity_endpoint_groups (id) ON DELETE CASCADE,
    project_id TEXT NOT NULL REFERENCES identity_projects (id) ON DELETE CASCADE,
    PRIMARY KEY (endpoint_group_id, project_id)
);
CREATE INDEX identity_project_endpoint_groups_project ON identity_project_endpoint_groups (project_id);

CREATE TABLE identity_policies (id TEXT PRIMARY KEY, blob TEXT NOT NULL, type TEXT NOT NULL, extra TEXT NOT NULL);
CREATE TABLE identity_policy_associations (
    policy_id TEXT NOT NULL, endpoint_id TEXT NOT NULL, service_id TEXT NOT NULL, region_id TEXT NOT NULL,
    PRIMARY KEY (endpoint_id, service_id, region_id)
);
CREATE INDEX identity_policy_associations_policy ON identity_policy_associations (policy_id);

CREATE TABLE identity_credentials (
    id TEXT PRIMARY KEY, user_id TEXT NOT NULL, project_id TEXT, type TEXT NOT NULL, encrypted_blob TEXT NOT NULL, extra TEXT NOT NULL
);
CREATE INDEX identity_credentials_user ON identity_credentials (user_id, type);
CREATE INDEX identity_credentials_project ON identity_credentials (project_id);

CREATE TABLE identity_trusts (
    id TEXT PRIMARY KEY, trustor_user_id TEXT NOT NULL, trustee_user_id TEXT NOT NULL, project_id TEXT, impersonation BIGINT NOT NULL,
    expires_at BIGINT, remaining_uses BIGINT, deleted_at BIGINT, redelegated_trust_id TEXT, redelegation_count BIGINT, extra TEXT NOT NULL,
    UNIQUE (trustor_user_id, trustee_user_id, project_id, impersonation, expires_at)
);
CREATE INDEX identity_trusts_trustee ON identity_trusts (trustee_user_id);
CREATE INDEX identity_trusts_project ON identity_trusts (project_id);
CREATE TABLE identity_trust_roles (
    trust_id TEXT NOT NULL REFERENCES identity_trusts (id) ON DELETE CASCADE, role_id TEXT NOT NULL, PRIMARY KEY (trust_id, role_id)
);

CREATE TABLE identity_application_credentials (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, secret_hash TEXT NOT NULL, description TEXT, user_id TEXT NOT NULL, project_id TEXT,
    system TEXT, expires_at BIGINT, unrestricted BIGINT,
    UNIQUE (user_id, name)
);
CREATE TABLE identity_application_credential_roles (
    application_credential_id TEXT NOT NULL REFERENCES identity_application_credentials (id) ON DELETE CASCADE,
    role_id TEXT NOT NULL, PRIMARY KEY (application_credential_id, role_id)
);
CREATE TABLE identity_access_rules (
    id TEXT PRIMARY KEY, user_id TEXT NOT NULL, service TEXT, path TEXT, method TEXT, UNIQUE (user_id, service, path, method)
);
CREATE TABLE identity_application_credential_access_rules (
    application_credential_id TEXT NOT NULL REFERENCES identity_application_credentials (id) ON DELETE CASCADE,
    access_rule_id TEXT NOT NULL REFERENCES identity_access_rules (id), PRIMARY KEY (application_credential_id, access_rule_id)
);
CREATE INDEX identity_application_credential_access_rules_rule ON identity_application_credential_access_rules (access_rule_id);

CREATE TABLE identity_consumers (id TEXT PRIMARY KEY, description TEXT, secret TEXT NOT NULL, extra TEXT NOT NULL);
CREATE TABLE identity_request_tokens (
    id TEXT PRIMARY KEY, request_secret TEXT NOT NULL, verifier TEXT, authorizing_user_id TEXT, requested_project_id TEXT NOT NULL,
    role_ids TEXT, consumer_id TEXT NOT NULL REFERENCES identity_consumers (id) ON DELETE CASCADE, expires_at BIGINT
);
CREATE INDEX identity_request_tokens_consumer ON identity_request_tokens (consumer_id);
CREATE TABLE identity_access_tokens (
    id TEXT PRIMARY KEY, access_secret TEXT NOT NULL, authorizing_user_id TEXT NOT NULL, project_id TEXT NOT NULL,
    role_ids TEXT NOT NULL, consumer_id TEXT NOT NULL REFERENCES identity_consumers (id) ON DELETE CASCADE, expires_at BIGINT
);
CREATE INDEX identity_access_tokens_user ON identity_access_tokens (authorizing_user_id);
CREATE INDEX identity_access_tokens_consumer ON identity_access_tokens (consumer_id);

CREATE TABLE identity_registered_limits (
    id TEXT PRIMARY KEY, service_id TEXT NOT NULL REFERENCES identity_services (id), region_id TEXT REFERENCES identity_regions (id),
    resource_name TEXT NOT NULL, default_limit BIGINT NOT NULL, description TEXT
);
CREATE INDEX identity_registered_limits_service ON identity_registered_limits (service_id, resource_name);
CREATE TABLE identity_limits (
    id TEXT PRIMARY KEY, project_id TEXT, domain_id TEXT, resource_limit BIGINT NOT NULL, description TEXT,
    registered_limit_id TEXT NOT NULL REFERENCES identity_registered_limits (id)
);
CREATE INDEX identity_limits_project ON identity_limits (project_id);
CREATE INDEX identity_limits_domain ON identity_limits (domain_id);
CREATE INDEX identity_limits_registered ON identity_limits (registered_limit_id);

CREATE TABLE identity_domain_config (
    domain_id TEXT NOT NULL, section TEXT NOT NULL, option TEXT NOT NULL, value TEXT NOT NULL, sensitive BIGINT NOT NULL,
    PRIMARY KEY (domain_id, section, option)
);

CREATE TABLE identity_providers (
    id TEXT PRIMARY KEY, domain_id TEXT NOT NULL, enabled BIGINT NOT NULL, description TEXT, authorization_ttl BIGINT
);
CREATE TABLE identity_provider_remote_ids (
    remote_id TEXT PRIMARY KEY, idp_id TEXT NOT NULL REFERENCES identity_providers (id) ON DELETE CASCADE
);
CREATE INDEX identity_provider_remote_ids_idp ON identity_provider_remote_ids (idp_id);
CREATE TABLE identity_protocols (
    id TEXT NOT NULL, idp_id TEXT NOT NULL REFERENCES identity_providers (id) ON DELETE CASCADE, mapping_id TEXT NOT NULL,
    remote_id_attribute TEXT, PRIMARY KEY (idp_id, id)
);
CREATE TABLE identity_mappings (id TEXT PRIMARY KEY, rules TEXT NOT NULL, schema_version TEXT NOT NULL);
CREATE TABLE identity_service_providers (
    id TEXT PRIMARY KEY, enabled BIGINT NOT NULL, description TEXT, auth_url TEXT NOT NULL, sp_url TEXT NOT NULL, relay_state_prefix TEXT NOT NULL
);
CREATE TABLE identity_federated_users (
    id {{serial}}, user_id TEXT NOT NULL REFERENCES identity_users (id) ON DELETE CASCADE, idp_id TEXT NOT NULL,
    protocol_id TEXT NOT NULL, unique_id TEXT NOT NULL, display_name TEXT, UNIQUE (idp_id, protocol_id, unique_id)
);
CREATE INDEX identity_federated_users_user ON identity_federated_users (user_id);

CREATE TABLE identity_revocations (
    id {{serial}}, domain_id TEXT, project_id TEXT, user_id TEXT, role_id TEXT, trust_id TEXT, consumer_id TEXT, access_token_id TEXT,
    audit_id TEXT, audit_chain_id TEXT, expires_at BIGINT, issued_before BIGINT NOT NULL, revoked_at BIGINT NOT NULL
);
CREATE INDEX identity_revocations_before ON identity_revocations (issued_before);
CREATE INDEX identity_revocations_at ON identity_revocations (revoked_at);
