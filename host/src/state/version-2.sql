-- Version 2. Limits of instances, memory, processor and device; what jobs used; models that are deleted; indices for
-- what is asked of ten thousand jobs.

ALTER TABLE tenants ADD COLUMN instances INTEGER;       -- most of its jobs' instances at once; absent: any number
ALTER TABLE tenants ADD COLUMN memory INTEGER;          -- most bytes that these may have together; absent: any
ALTER TABLE tenants ADD COLUMN cpu_seconds INTEGER;     -- in one calendar month, UTC; absent: any
ALTER TABLE tenants ADD COLUMN device_seconds INTEGER;  -- likewise

ALTER TABLE models ADD COLUMN deleted TEXT;             -- its number is not used again

-- As before, with what a job asks for; another check of the status needs another table.
CREATE TABLE jobs_2 (
  id TEXT PRIMARY KEY,                  -- sorts by time
  tenant INTEGER NOT NULL REFERENCES tenants (id),
  endpoint TEXT NOT NULL,
  deployment TEXT NOT NULL,
  version INTEGER NOT NULL,
  folder TEXT NOT NULL,                 -- the deployment's, by its digest
  model TEXT,                           -- the registered model's digest
  input TEXT NOT NULL,                  -- JSON
  overrides TEXT NOT NULL,              -- JSON: settings that replace the deployment's
  instances INTEGER NOT NULL,           -- that score at once
  memory INTEGER NOT NULL,              -- bytes that these may have together
  status TEXT NOT NULL CHECK (status IN ('Queued', 'Running', 'Finalizing', 'Completed', 'Failed', 'Canceled')),
  cancel INTEGER NOT NULL DEFAULT 0,    -- it was asked to stop
  starts INTEGER NOT NULL DEFAULT 0,    -- processes that were begun for it
  deaths INTEGER NOT NULL DEFAULT 0,    -- those of them that died, since it was accepted or resumed
  record TEXT,                          -- JSON: job.json, once it ended
  error TEXT,
  idempotency TEXT,
  request TEXT NOT NULL,                -- digest of the request's body, for a key that is used again
  created TEXT NOT NULL,
  started TEXT,
  ended TEXT,
  output TEXT,                          -- the place that the output is published to
  UNIQUE (tenant, idempotency)
) STRICT;

-- What jobs of before ask for is not known here. One instance is what they have by default; their memory is not counted.
INSERT INTO jobs_2 SELECT id, tenant, endpoint, deployment, version, folder, model, input, overrides, 1, 0, status,
  cancel, starts, deaths, record, error, idempotency, request, created, started, ended, NULL FROM jobs;
DROP TABLE jobs;
ALTER TABLE jobs_2 RENAME TO jobs;

CREATE INDEX jobs_of_tenant ON jobs (tenant, id);
CREATE INDEX jobs_by_status ON jobs (tenant, status, id);
CREATE INDEX jobs_of_endpoint ON jobs (tenant, endpoint, id);
CREATE INDEX jobs_of_upload ON jobs (tenant, json_extract(input, '$.upload'));

-- What a job's processes took on one day, UTC. Outlives the job.
CREATE TABLE usage (
  tenant INTEGER NOT NULL REFERENCES tenants (id),
  day TEXT NOT NULL,
  job TEXT NOT NULL,
  cpu_seconds REAL NOT NULL DEFAULT 0,
  device_seconds REAL NOT NULL DEFAULT 0,
  instance_seconds REAL NOT NULL DEFAULT 0,
  input_bytes INTEGER NOT NULL DEFAULT 0,
  output_bytes INTEGER NOT NULL DEFAULT 0,
  files INTEGER NOT NULL DEFAULT 0,
  rows INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant, day, job)
) STRICT, WITHOUT ROWID;

CREATE INDEX usage_of_job ON usage (job);
