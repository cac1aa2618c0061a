-- Network: desired state of the virtual networks. Times are µs, booleans 0/1, documents JSON.

CREATE TABLE tags (
    resource_id TEXT NOT NULL,
    tag TEXT NOT NULL,
    resource TEXT NOT NULL,
    PRIMARY KEY (resource_id, tag)
);
CREATE INDEX tags_by_tag ON tags (tag);

CREATE TABLE quotas (
    project_id TEXT NOT NULL,
    resource TEXT NOT NULL,
    quota_limit BIGINT NOT NULL,
    PRIMARY KEY (project_id, resource)
);

CREATE TABLE rbac_policies (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    object_type TEXT NOT NULL,
    object_id TEXT NOT NULL,
    action TEXT NOT NULL,
    target_project TEXT NOT NULL,
    UNIQUE (object_type, object_id, action, target_project)
);
CREATE INDEX rbac_by_object ON rbac_policies (object_id);
CREATE INDEX rbac_by_target ON rbac_policies (object_type, target_project, action, object_id);
CREATE INDEX rbac_by_project ON rbac_policies (project_id);

CREATE TABLE networks (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    admin_state_up BIGINT NOT NULL,
    status TEXT NOT NULL,
    mtu BIGINT NOT NULL,
    port_security_enabled BIGINT NOT NULL,
    dns_domain TEXT NOT NULL DEFAULT '',
    external BIGINT NOT NULL DEFAULT 0,
    is_default BIGINT NOT NULL DEFAULT 0,
    availability_zone_hints TEXT NOT NULL DEFAULT '[]',
    qos_policy_id TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision_number BIGINT NOT NULL
);
CREATE INDEX networks_by_project ON networks (project_id);
CREATE INDEX networks_by_name ON networks (name);

CREATE TABLE network_segments (
    id TEXT PRIMARY KEY,
    network_id TEXT NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    name TEXT,
    description TEXT,
    network_type TEXT NOT NULL,
    physical_network TEXT,
    segmentation_id BIGINT,
    segment_index BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision_number BIGINT NOT NULL
);
CREATE INDEX network_segments_by_network ON network_segments (network_id, segment_index);
-- Two networks never share a segment; a local network has none to share.
CREATE UNIQUE INDEX network_segments_once ON network_segments
    (network_type, (COALESCE(physical_network, '')), (COALESCE(segmentation_id, 0))) WHERE network_type <> 'local';

-- What may be handed out: one row per configured range.
CREATE TABLE network_segment_ranges (
    id TEXT PRIMARY KEY,
    project_id TEXT,
    name TEXT NOT NULL DEFAULT '',
    description TEXT,
    is_default BIGINT NOT NULL,
    shared BIGINT NOT NULL,
    network_type TEXT NOT NULL,
    physical_network TEXT,
    minimum BIGINT NOT NULL,
    maximum BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision_number BIGINT NOT NULL
);

-- The segment ids that are free, as the fewest intervals: taking one is a look at one row.
CREATE TABLE free_segments (
    network_type TEXT NOT NULL,
    physical_network TEXT NOT NULL,
    first_id BIGINT NOT NULL,
    last_id BIGINT NOT NULL,
    PRIMARY KEY (network_type, physical_network, first_id)
);

CREATE TABLE address_scopes (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    ip_version BIGINT NOT NULL
);
CREATE INDEX address_scopes_by_project ON address_scopes (project_id);

CREATE TABLE subnetpools (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    prefixes TEXT NOT NULL,
    ip_version BIGINT NOT NULL,
    default_prefixlen BIGINT NOT NULL,
    min_prefixlen BIGINT NOT NULL,
    max_prefixlen BIGINT NOT NULL,
    default_quota BIGINT,
    is_default BIGINT NOT NULL,
    address_scope_id TEXT REFERENCES address_scopes (id),
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision_number BIGINT NOT NULL
);
CREATE INDEX subnetpools_by_project ON subnetpools (project_id);
CREATE UNIQUE INDEX subnetpools_one_default ON subnetpools (ip_version) WHERE is_default = 1;

CREATE TABLE subnets (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    network_id TEXT NOT NULL REFERENCES networks (id),
    name TEXT NOT NULL,
    description TEXT,
    ip_version BIGINT NOT NULL,
    cidr TEXT NOT NULL,
    gateway_ip TEXT,
    enable_dhcp BIGINT NOT NULL,
    ipv6_ra_mode TEXT,
    ipv6_address_mode TEXT,
    subnetpool_id TEXT REFERENCES subnetpools (id),
    segment_id TEXT REFERENCES network_segments (id),
    dns_publish_fixed_ip BIGINT NOT NULL DEFAULT 0,
    allocation_pools TEXT NOT NULL,
    dns_nameservers TEXT NOT NULL DEFAULT '[]',
    host_routes TEXT NOT NULL DEFAULT '[]',
    service_types TEXT NOT NULL DEFAULT '[]',
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision_number BIGINT NOT NULL
);
CREATE INDEX subnets_by_network ON subnets (network_id);
CREATE INDEX subnets_by_project ON subnets (project_id);
CREATE INDEX subnets_by_name ON subnets (name);
CREATE INDEX subnets_by_pool ON subnets (subnetpool_id);

CREATE TABLE ports (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    network_id TEXT NOT NULL REFERENCES networks (id),
    name TEXT NOT NULL,
    description TEXT,
    mac_address TEXT NOT NULL,
    admin_state_up BIGINT NOT NULL,
    status TEXT NOT NULL,
    device_id TEXT NOT NULL,
    device_owner TEXT NOT NULL,
    port_security_enabled BIGINT NOT NULL,
    fixed_ips TEXT NOT NULL,
    security_groups TEXT NOT NULL,
    allowed_address_pairs TEXT NOT NULL DEFAULT '[]',
    extra_dhcp_opts TEXT NOT NULL DEFAULT '[]',
    host_id TEXT NOT NULL DEFAULT '',
    vnic_type TEXT NOT NULL DEFAULT 'normal',
    vif_type TEXT NOT NULL DEFAULT 'unbound',
    vif_details TEXT NOT NULL DEFAULT '{}',
    profile TEXT NOT NULL DEFAULT '{}',
    dns_name TEXT NOT NULL DEFAULT '',
    dns_domain TEXT NOT NULL DEFAULT '',
    ip_allocation TEXT NOT NULL DEFAULT 'immediate',
    qos_policy_id TEXT,
    device_profile TEXT,
    trusted BIGINT,
    propagate_uplink_status BIGINT NOT NULL DEFAULT 1,
    -- What Compute remembers of a server's NIC.
    nic_tag TEXT,
    nic_index BIGINT NOT NULL DEFAULT 0,
    made_by_compute BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision_number BIGINT NOT NULL,
    UNIQUE (network_id, mac_address)
);
CREATE INDEX ports_by_project ON ports (project_id);
CREATE INDEX ports_by_device ON ports (device_id);
CREATE INDEX ports_by_owner ON ports (network_id, device_owner);
CREATE INDEX ports_by_host ON ports (host_id);
CREATE INDEX ports_by_name ON ports (name);
CREATE INDEX ports_by_mac ON ports (mac_address);

-- An address has one port; ports.fixed_ips shows the same for reading.
CREATE TABLE ip_allocations (
    subnet_id TEXT NOT NULL REFERENCES subnets (id),
    ip_address TEXT NOT NULL,
    network_id TEXT NOT NULL,
    port_id TEXT NOT NULL REFERENCES ports (id) ON DELETE CASCADE,
    PRIMARY KEY (subnet_id, ip_address)
);
CREATE INDEX ip_allocations_by_port ON ip_allocations (port_id);
CREATE INDEX ip_allocations_by_address ON ip_allocations (ip_address);

-- The addresses of allocation pools that are free, as the fewest intervals; keys are fixed-length hexadecimal.
CREATE TABLE free_addresses (
    subnet_id TEXT NOT NULL REFERENCES subnets (id) ON DELETE CASCADE,
    first_ip TEXT NOT NULL,
    last_ip TEXT NOT NULL,
    PRIMARY KEY (subnet_id, first_ip)
);

CREATE TABLE security_groups (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    stateful BIGINT NOT NULL,
    is_default BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision_number BIGINT NOT NULL
);
CREATE INDEX security_groups_by_project ON security_groups (project_id);
CREATE INDEX security_groups_by_name ON security_groups (name);
CREATE UNIQUE INDEX security_groups_one_default ON security_groups (project_id) WHERE is_default = 1;

CREATE TABLE address_groups (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    addresses TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision_number BIGINT NOT NULL
);
CREATE INDEX address_groups_by_project ON address_groups (project_id);

CREATE TABLE security_group_rules (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    security_group_id TEXT NOT NULL REFERENCES security_groups (id) ON DELETE CASCADE,
    description TEXT,
    direction TEXT NOT NULL,
    ethertype TEXT NOT NULL,
    protocol TEXT,
    port_range_min BIGINT,
    port_range_max BIGINT,
    remote_group_id TEXT REFERENCES security_groups (id) ON DELETE CASCADE,
    remote_ip_prefix TEXT,
    remote_address_group_id TEXT REFERENCES address_groups (id),
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision_number BIGINT NOT NULL
);
CREATE INDEX security_group_rules_by_group ON security_group_rules (security_group_id);
CREATE INDEX security_group_rules_by_project ON security_group_rules (project_id);
CREATE INDEX security_group_rules_by_remote ON security_group_rules (remote_group_id);
CREATE INDEX security_group_rules_by_remote_addresses ON security_group_rules (remote_address_group_id);

CREATE TABLE default_security_group_rules (
    id TEXT PRIMARY KEY,
    description TEXT,
    direction TEXT NOT NULL,
    ethertype TEXT NOT NULL,
    protocol TEXT,
    port_range_min BIGINT,
    port_range_max BIGINT,
    remote_group_id TEXT,
    remote_ip_prefix TEXT,
    remote_address_group_id TEXT,
    used_in_default_sg BIGINT NOT NULL,
    used_in_non_default_sg BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision_number BIGINT NOT NULL
);

CREATE TABLE port_security_groups (
    port_id TEXT NOT NULL REFERENCES ports (id) ON DELETE CASCADE,
    security_group_id TEXT NOT NULL REFERENCES security_groups (id),
    PRIMARY KEY (port_id, security_group_id)
);
CREATE INDEX port_security_groups_by_group ON port_security_groups (security_group_id, port_id);

CREATE TABLE routers (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    admin_state_up BIGINT NOT NULL,
    status TEXT NOT NULL,
    gw_port_id TEXT REFERENCES ports (id),
    enable_snat BIGINT NOT NULL DEFAULT 1,
    ha BIGINT NOT NULL DEFAULT 0,
    flavor_id TEXT,
    enable_ndp_proxy BIGINT NOT NULL DEFAULT 0,
    availability_zone_hints TEXT NOT NULL DEFAULT '[]',
    routes TEXT NOT NULL DEFAULT '[]',
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision_number BIGINT NOT NULL
);
CREATE INDEX routers_by_project ON routers (project_id);
CREATE INDEX routers_by_name ON routers (name);
CREATE INDEX routers_by_gateway ON routers (gw_port_id);

CREATE TABLE router_ports (
    port_id TEXT PRIMARY KEY REFERENCES ports (id) ON DELETE CASCADE,
    router_id TEXT NOT NULL REFERENCES routers (id),
    port_type TEXT NOT NULL
);
CREATE INDEX router_ports_by_router ON router_ports (router_id);

CREATE TABLE floatingips (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    description TEXT,
    floating_ip_address TEXT NOT NULL,
    floating_network_id TEXT NOT NULL REFERENCES networks (id),
    floating_port_id TEXT NOT NULL REFERENCES ports (id),
    port_id TEXT REFERENCES ports (id),
    fixed_ip_address TEXT,
    router_id TEXT REFERENCES routers (id),
    status TEXT NOT NULL,
    qos_policy_id TEXT,
    dns_name TEXT NOT NULL DEFAULT '',
    dns_domain TEXT NOT NULL DEFAULT '',
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision_number BIGINT NOT NULL,
    UNIQUE (floating_network_id, port_id, fixed_ip_address)
);
CREATE INDEX floatingips_by_project ON floatingips (project_id);
CREATE INDEX floatingips_by_port ON floatingips (port_id);
CREATE INDEX floatingips_by_router ON floatingips (router_id);
CREATE INDEX floatingips_by_floating_port ON floatingips (floating_port_id);
CREATE INDEX floatingips_by_address ON floatingips (floating_ip_address);

CREATE TABLE agents (
    id TEXT PRIMARY KEY,
    agent_type TEXT NOT NULL,
    binary_name TEXT NOT NULL,
    topic TEXT NOT NULL,
    host TEXT NOT NULL,
    availability_zone TEXT,
    admin_state_up BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    heartbeat_timestamp BIGINT NOT NULL,
    configurations TEXT NOT NULL,
    description TEXT,
    UNIQUE (agent_type, host)
);

CREATE TABLE network_nodes (
    hostname TEXT PRIMARY KEY,
    tunnel_ip TEXT,
    integration_bridge TEXT NOT NULL,
    datapath_type TEXT NOT NULL,
    bridge_mappings TEXT NOT NULL,
    seen_at BIGINT NOT NULL
);

CREATE TABLE auto_allocated_topologies (
    project_id TEXT PRIMARY KEY,
    network_id TEXT NOT NULL REFERENCES networks (id),
    router_id TEXT
);

CREATE TABLE qos_policies (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    is_default BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision_number BIGINT NOT NULL
);
CREATE INDEX qos_policies_by_project ON qos_policies (project_id);
CREATE UNIQUE INDEX qos_policies_one_default ON qos_policies (project_id) WHERE is_default = 1;

CREATE TABLE qos_rules (
    id TEXT PRIMARY KEY,
    policy_id TEXT NOT NULL REFERENCES qos_policies (id) ON DELETE CASCADE,
    rule_type TEXT NOT NULL,
    direction TEXT,
    max_kbps BIGINT,
    max_burst_kbps BIGINT,
    min_kbps BIGINT,
    dscp_mark BIGINT,
    max_kpps BIGINT,
    max_burst_kpps BIGINT,
    min_kpps BIGINT
);
CREATE INDEX qos_rules_by_policy ON qos_rules (policy_id);
CREATE INDEX networks_by_qos ON networks (qos_policy_id);
CREATE INDEX ports_by_qos ON ports (qos_policy_id);

CREATE TABLE trunks (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    admin_state_up BIGINT NOT NULL,
    status TEXT NOT NULL,
    port_id TEXT NOT NULL UNIQUE REFERENCES ports (id),
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision_number BIGINT NOT NULL
);
CREATE INDEX trunks_by_project ON trunks (project_id);

CREATE TABLE trunk_subports (
    port_id TEXT PRIMARY KEY REFERENCES ports (id),
    trunk_id TEXT NOT NULL REFERENCES trunks (id) ON DELETE CASCADE,
    segmentation_type TEXT NOT NULL,
    segmentation_id BIGINT NOT NULL,
    UNIQUE (trunk_id, segmentation_type, segmentation_id)
);

CREATE TABLE service_flavors (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT,
    service_type TEXT NOT NULL,
    enabled BIGINT NOT NULL
);

CREATE TABLE service_profiles (
    id TEXT PRIMARY KEY,
    description TEXT,
    driver TEXT NOT NULL,
    metainfo TEXT NOT NULL,
    enabled BIGINT NOT NULL
);

CREATE TABLE flavor_profiles (
    flavor_id TEXT NOT NULL REFERENCES service_flavors (id) ON DELETE CASCADE,
    service_profile_id TEXT NOT NULL REFERENCES service_profiles (id),
    PRIMARY KEY (flavor_id, service_profile_id)
);

CREATE TABLE port_forwardings (
    id TEXT PRIMARY KEY,
    floatingip_id TEXT NOT NULL REFERENCES floatingips (id),
    internal_port_id TEXT NOT NULL REFERENCES ports (id),
    internal_ip_address TEXT NOT NULL,
    internal_port BIGINT NOT NULL,
    external_port BIGINT NOT NULL,
    protocol TEXT NOT NULL,
    description TEXT,
    UNIQUE (floatingip_id, external_port, protocol)
);
CREATE INDEX port_forwardings_by_port ON port_forwardings (internal_port_id);
