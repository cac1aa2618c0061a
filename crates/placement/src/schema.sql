CREATE TABLE resource_providers (
    id {{serial}},
    uuid TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    generation BIGINT NOT NULL,
    parent_uuid TEXT,
    root_uuid TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT
);
CREATE INDEX resource_providers_by_root ON resource_providers (root_uuid);
CREATE INDEX resource_providers_by_parent ON resource_providers (parent_uuid);
CREATE TABLE resource_classes (
    id {{serial}},
    name TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    updated_at BIGINT
);
CREATE TABLE inventories (
    provider_uuid TEXT NOT NULL,
    resource_class TEXT NOT NULL,
    total BIGINT NOT NULL,
    reserved BIGINT NOT NULL,
    min_unit BIGINT NOT NULL,
    max_unit BIGINT NOT NULL,
    step_size BIGINT NOT NULL,
    allocation_ratio DOUBLE PRECISION NOT NULL,
    used BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    PRIMARY KEY (provider_uuid, resource_class)
);
CREATE INDEX inventories_by_class ON inventories (resource_class);
CREATE TABLE consumers (
    uuid TEXT NOT NULL PRIMARY KEY,
    project_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    consumer_type TEXT,
    generation BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT
);
CREATE INDEX consumers_by_project ON consumers (project_id, user_id);
CREATE TABLE allocations (
    id {{serial}},
    consumer_uuid TEXT NOT NULL,
    provider_uuid TEXT NOT NULL,
    resource_class TEXT NOT NULL,
    used BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (consumer_uuid, provider_uuid, resource_class)
);
CREATE INDEX allocations_by_provider ON allocations (provider_uuid);
CREATE TABLE traits (
    id {{serial}},
    name TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    updated_at BIGINT
);
CREATE TABLE resource_provider_traits (
    provider_uuid TEXT NOT NULL,
    trait TEXT NOT NULL,
    PRIMARY KEY (provider_uuid, trait)
);
CREATE INDEX resource_provider_traits_by_trait ON resource_provider_traits (trait);
CREATE TABLE resource_provider_aggregates (
    id {{serial}},
    provider_uuid TEXT NOT NULL,
    aggregate_uuid TEXT NOT NULL,
    UNIQUE (provider_uuid, aggregate_uuid)
);
CREATE INDEX resource_provider_aggregates_by_aggregate ON resource_provider_aggregates (aggregate_uuid);
