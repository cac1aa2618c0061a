-- Helpers of connection tracking, NDP proxies, local IPs.

CREATE TABLE conntrack_helpers (
    id TEXT PRIMARY KEY,
    router_id TEXT NOT NULL REFERENCES routers (id) ON DELETE CASCADE,
    protocol TEXT NOT NULL,
    port BIGINT NOT NULL,
    helper TEXT NOT NULL,
    UNIQUE (router_id, protocol, port, helper)
);

CREATE TABLE ndp_proxies (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    router_id TEXT NOT NULL REFERENCES routers (id) ON DELETE CASCADE,
    port_id TEXT NOT NULL REFERENCES ports (id) ON DELETE CASCADE,
    ip_address TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision_number BIGINT NOT NULL
);
CREATE INDEX ndp_proxies_by_router ON ndp_proxies (router_id);
CREATE INDEX ndp_proxies_by_port ON ndp_proxies (port_id);
CREATE INDEX ndp_proxies_by_project ON ndp_proxies (project_id);

CREATE TABLE local_ips (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    local_port_id TEXT NOT NULL REFERENCES ports (id),
    network_id TEXT NOT NULL REFERENCES networks (id),
    local_ip_address TEXT NOT NULL,
    ip_mode TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision_number BIGINT NOT NULL
);
CREATE INDEX local_ips_by_port ON local_ips (local_port_id);
CREATE INDEX local_ips_by_network ON local_ips (network_id);
CREATE INDEX local_ips_by_project ON local_ips (project_id);

CREATE TABLE local_ip_associations (
    id TEXT PRIMARY KEY,
    local_ip_id TEXT NOT NULL REFERENCES local_ips (id),
    fixed_port_id TEXT NOT NULL REFERENCES ports (id) ON DELETE CASCADE,
    fixed_ip TEXT NOT NULL,
    UNIQUE (local_ip_id, fixed_port_id)
);
CREATE INDEX local_ip_associations_by_port ON local_ip_associations (fixed_port_id);
