CREATE TABLE compute_flavors (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    memory_mb BIGINT NOT NULL,
    vcpus BIGINT NOT NULL,
    root_gb BIGINT NOT NULL,
    ephemeral_gb BIGINT NOT NULL,
    swap BIGINT NOT NULL,
    rxtx_factor DOUBLE PRECISION NOT NULL,
    disabled BIGINT NOT NULL,
    is_public BIGINT NOT NULL,
    description TEXT,
    extra_specs TEXT NOT NULL,
    number BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT
);
CREATE UNIQUE INDEX compute_flavors_name ON compute_flavors (name);
CREATE TABLE flavor_access (
    flavor_id TEXT NOT NULL REFERENCES compute_flavors (id) ON DELETE CASCADE,
    project_id TEXT NOT NULL,
    PRIMARY KEY (flavor_id, project_id)
);
CREATE INDEX flavor_access_project ON flavor_access (project_id);

CREATE TABLE keypairs (
    number {{serial}},
    user_id TEXT NOT NULL,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    public_key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX keypairs_name ON keypairs (user_id, name);

CREATE TABLE servers (
    id TEXT PRIMARY KEY,
    number BIGINT NOT NULL,
    project_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    hostname TEXT NOT NULL,
    reservation_id TEXT NOT NULL,
    launch_index BIGINT NOT NULL,
    vm_state TEXT NOT NULL,
    task_state TEXT,
    power_state BIGINT NOT NULL,
    host TEXT,
    node TEXT,
    availability_zone TEXT,
    pinned_availability_zone TEXT,
    image_id TEXT NOT NULL,
    image TEXT NOT NULL,
    kernel_id TEXT NOT NULL,
    ramdisk_id TEXT NOT NULL,
    flavor_id TEXT NOT NULL,
    flavor TEXT NOT NULL,
    memory_mb BIGINT NOT NULL,
    vcpus BIGINT NOT NULL,
    root_gb BIGINT NOT NULL,
    key_name TEXT,
    key_pair TEXT,
    user_data TEXT,
    config_drive TEXT NOT NULL,
    access_ip_v4 TEXT,
    access_ip_v6 TEXT,
    auto_disk_config BIGINT NOT NULL,
    progress BIGINT NOT NULL,
    root_device_name TEXT,
    locked_by TEXT,
    locked_reason TEXT,
    trusted_certs TEXT,
    scheduler_hints TEXT NOT NULL,
    personality TEXT NOT NULL,
    admin_password TEXT,
    posted_password TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    launched_at BIGINT,
    terminated_at BIGINT,
    deleted_at BIGINT,
    power_wanted TEXT NOT NULL,
    power_generation BIGINT NOT NULL,
    soft_reboot BIGINT NOT NULL,
    hard_reboot BIGINT NOT NULL,
    rebuild BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    reported BIGINT NOT NULL,
    task_action BIGINT,
    saved TEXT NOT NULL,
    fault_code BIGINT,
    fault_message TEXT,
    fault_details TEXT,
    fault_created_at BIGINT
);
CREATE INDEX servers_project ON servers (project_id, deleted_at, created_at, number);
CREATE INDEX servers_usage ON servers (project_id, deleted_at, user_id, vcpus, memory_mb);
CREATE INDEX servers_created ON servers (deleted_at, created_at, number);
CREATE INDEX servers_host ON servers (host, deleted_at);
CREATE INDEX servers_updated ON servers (updated_at);
CREATE INDEX servers_reservation ON servers (reservation_id);
CREATE INDEX servers_name ON servers (project_id, name);
CREATE TABLE server_numbers (number {{serial}}, server_id TEXT NOT NULL);
CREATE TABLE server_metadata (
    server_id TEXT NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (server_id, key)
);
CREATE TABLE server_tags (
    server_id TEXT NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    tag TEXT NOT NULL,
    PRIMARY KEY (server_id, tag)
);
CREATE INDEX server_tags_tag ON server_tags (tag, server_id);
CREATE TABLE server_ports (
    port_id TEXT PRIMARY KEY,
    server_id TEXT NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    position BIGINT NOT NULL,
    tag TEXT,
    created_here BIGINT NOT NULL
);
CREATE INDEX server_ports_server ON server_ports (server_id, position);

CREATE TABLE instance_actions (
    number {{serial}},
    server_id TEXT NOT NULL,
    action TEXT NOT NULL,
    request_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    message TEXT
);
CREATE INDEX instance_actions_server ON instance_actions (server_id, number);
CREATE INDEX instance_actions_request ON instance_actions (request_id, server_id);
CREATE TABLE instance_action_events (
    number {{serial}},
    action BIGINT NOT NULL,
    event TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    finished_at BIGINT,
    result TEXT,
    traceback TEXT,
    host TEXT,
    details TEXT
);
CREATE INDEX instance_action_events_action ON instance_action_events (action, number);

CREATE TABLE server_groups (
    number {{serial}},
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    project_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    policy TEXT NOT NULL,
    rules TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX server_groups_id ON server_groups (id);
CREATE INDEX server_groups_project ON server_groups (project_id, number);
CREATE TABLE server_group_members (
    server_id TEXT PRIMARY KEY,
    group_id TEXT NOT NULL
);
CREATE INDEX server_group_members_group ON server_group_members (group_id);

CREATE TABLE compute_quotas (
    project_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    resource TEXT NOT NULL,
    hard_limit BIGINT NOT NULL,
    PRIMARY KEY (project_id, user_id, resource)
);
CREATE TABLE compute_quota_classes (
    class TEXT NOT NULL,
    resource TEXT NOT NULL,
    hard_limit BIGINT NOT NULL,
    PRIMARY KEY (class, resource)
);

CREATE TABLE compute_services (
    number {{serial}},
    id TEXT NOT NULL,
    host TEXT NOT NULL,
    binary_name TEXT NOT NULL,
    topic TEXT NOT NULL,
    disabled BIGINT NOT NULL,
    disabled_reason TEXT,
    forced_down BIGINT NOT NULL,
    seen_at BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT
);
CREATE UNIQUE INDEX compute_services_id ON compute_services (id);
CREATE UNIQUE INDEX compute_services_host ON compute_services (host, binary_name);
CREATE TABLE compute_nodes (
    number {{serial}},
    id TEXT NOT NULL,
    host TEXT NOT NULL,
    hypervisor_hostname TEXT NOT NULL,
    hello TEXT NOT NULL,
    heartbeat TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX compute_nodes_id ON compute_nodes (id);
CREATE UNIQUE INDEX compute_nodes_host ON compute_nodes (host);

CREATE TABLE aggregates (
    number {{serial}},
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT
);
CREATE UNIQUE INDEX aggregates_name ON aggregates (name);
CREATE TABLE aggregate_hosts (
    aggregate BIGINT NOT NULL,
    host TEXT NOT NULL,
    position BIGINT NOT NULL,
    PRIMARY KEY (aggregate, host)
);
CREATE INDEX aggregate_hosts_host ON aggregate_hosts (host);
CREATE TABLE aggregate_metadata (
    aggregate BIGINT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (aggregate, key)
);

CREATE TABLE console_tokens (
    token_hash TEXT PRIMARY KEY,
    server_id TEXT NOT NULL,
    host TEXT NOT NULL,
    port BIGINT NOT NULL,
    console_type TEXT NOT NULL,
    access_path TEXT,
    expires_at BIGINT NOT NULL
);
CREATE INDEX console_tokens_expiry ON console_tokens (expires_at);
CREATE INDEX console_tokens_server ON console_tokens (server_id);

CREATE TABLE server_migrations (
    number {{serial}},
    id TEXT NOT NULL,
    server_id TEXT NOT NULL,
    source_compute TEXT,
    source_node TEXT,
    dest_compute TEXT,
    dest_node TEXT,
    dest_host TEXT,
    status TEXT NOT NULL,
    migration_type TEXT NOT NULL,
    old_flavor TEXT NOT NULL,
    new_flavor TEXT NOT NULL,
    user_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT
);
CREATE UNIQUE INDEX server_migrations_id ON server_migrations (id);
CREATE INDEX server_migrations_server ON server_migrations (server_id);
CREATE INDEX server_migrations_updated ON server_migrations (updated_at);
