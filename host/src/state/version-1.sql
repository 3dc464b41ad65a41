-- Version 1. Names that people give are unique within their tenant; everything but tenants belongs to one.
-- Times are RFC 3339 in UTC with milliseconds, so that they sort as text.

CREATE TABLE tenants (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  weight INTEGER NOT NULL DEFAULT 1 CHECK (weight > 0),
  running INTEGER NOT NULL,             -- most jobs at once
  queued INTEGER NOT NULL,              -- most jobs that wait
  storage INTEGER NOT NULL,             -- most bytes of uploads, models, scripts and outputs
  created TEXT NOT NULL
) STRICT;

CREATE TABLE tokens (
  id TEXT PRIMARY KEY,                  -- public; the first part of the token
  tenant INTEGER NOT NULL REFERENCES tenants (id),
  name TEXT NOT NULL,
  hash BLOB NOT NULL,                   -- SHA-256 of the whole token
  scopes TEXT NOT NULL,                 -- words with spaces between
  created TEXT NOT NULL,
  expires TEXT,
  revoked TEXT
) STRICT;

-- A version of a model never changes.
CREATE TABLE models (
  tenant INTEGER NOT NULL REFERENCES tenants (id),
  name TEXT NOT NULL,
  version INTEGER NOT NULL,
  digest TEXT NOT NULL,
  created TEXT NOT NULL,
  PRIMARY KEY (tenant, name, version)
) STRICT;

CREATE TABLE endpoints (
  id INTEGER PRIMARY KEY,
  tenant INTEGER NOT NULL REFERENCES tenants (id),
  name TEXT NOT NULL,
  description TEXT NOT NULL,
  tags TEXT NOT NULL,                   -- JSON
  default_deployment TEXT,              -- and the version of it that answers
  default_version INTEGER,
  created TEXT NOT NULL,
  updated TEXT NOT NULL,
  UNIQUE (tenant, name)
) STRICT;

-- A deployment never changes: writing it again under its name makes the next version.
CREATE TABLE deployments (
  id INTEGER PRIMARY KEY,
  endpoint INTEGER NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  version INTEGER NOT NULL,
  spec TEXT NOT NULL,                   -- the YAML, with paths inside its own folder
  digest TEXT NOT NULL,                 -- of the YAML and of every file beside it
  script TEXT,                          -- the script's digest
  model TEXT,                           -- the registered model's digest
  created TEXT NOT NULL,
  deleted TEXT,                         -- its number is not used again
  UNIQUE (endpoint, name, version)
) STRICT;

-- A job outlives its endpoint, as the record of what ran.
CREATE TABLE jobs (
  id TEXT PRIMARY KEY,                  -- sorts by time
  tenant INTEGER NOT NULL REFERENCES tenants (id),
  endpoint TEXT NOT NULL,
  deployment TEXT NOT NULL,
  version INTEGER NOT NULL,
  folder TEXT NOT NULL,                 -- the deployment's, by its digest
  model TEXT,                           -- the registered model's digest
  input TEXT NOT NULL,                  -- JSON
  overrides TEXT NOT NULL,              -- JSON: settings that replace the deployment's
  status TEXT NOT NULL CHECK (status IN ('Queued', 'Running', 'Completed', 'Failed', 'Canceled')),
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
  UNIQUE (tenant, idempotency)
) STRICT;

CREATE INDEX jobs_of_tenant ON jobs (tenant, id);
CREATE INDEX jobs_by_status ON jobs (status, id) WHERE status IN ('Queued', 'Running');

CREATE TABLE audit (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  at TEXT NOT NULL,
  tenant INTEGER NOT NULL,
  token TEXT NOT NULL,
  action TEXT NOT NULL,
  object TEXT NOT NULL
) STRICT;

CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_is_not_cut BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
