CREATE TABLE image_tasks (
    id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    owner TEXT,
    image_id TEXT,
    request_id TEXT,
    user_id TEXT,
    input TEXT NOT NULL,
    result TEXT,
    message TEXT NOT NULL,
    expires_at BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX image_tasks_by_image ON image_tasks (image_id);
CREATE INDEX image_tasks_by_status ON image_tasks (status);
CREATE INDEX image_tasks_by_created_at ON image_tasks (created_at, id);
