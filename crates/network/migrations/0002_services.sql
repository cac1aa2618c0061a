-- What agents are scheduled for, metering labels.

CREATE TABLE agent_bindings (
    agent_id TEXT NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
    object_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    PRIMARY KEY (agent_id, object_id)
);
CREATE INDEX agent_bindings_by_object ON agent_bindings (object_id);

CREATE TABLE metering_labels (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    shared BIGINT NOT NULL
);
CREATE INDEX metering_labels_by_project ON metering_labels (project_id);

CREATE TABLE metering_label_rules (
    id TEXT PRIMARY KEY,
    metering_label_id TEXT NOT NULL REFERENCES metering_labels (id) ON DELETE CASCADE,
    project_id TEXT NOT NULL,
    direction TEXT NOT NULL,
    excluded BIGINT NOT NULL,
    remote_ip_prefix TEXT
);
CREATE INDEX metering_label_rules_by_label ON metering_label_rules (metering_label_id);

CREATE TABLE logs (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    resource_type TEXT NOT NULL,
    resource_id TEXT,
    event TEXT NOT NULL,
    target_id TEXT,
    enabled BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision_number BIGINT NOT NULL
);
CREATE INDEX logs_by_resource ON logs (resource_id);
CREATE INDEX logs_by_target ON logs (target_id);
