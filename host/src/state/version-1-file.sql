-- What a host of version 1 wrote, as SQL: for the test that later versions read it. Not to be changed.
-- Two tenants; jobs that completed, failed, ran when the host was killed, waited, and were canceled.

PRAGMA foreign_keys = OFF;
BEGIN TRANSACTION;
CREATE TABLE audit (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  at TEXT NOT NULL,
  tenant INTEGER NOT NULL,
  token TEXT NOT NULL,
  action TEXT NOT NULL,
  object TEXT NOT NULL
) STRICT;
INSERT INTO "audit" VALUES(1,'2026-11-21T18:38:19.202Z',1,'','tenant create','default');
INSERT INTO "audit" VALUES(2,'2026-11-21T18:38:19.203Z',1,'','token create','ee557b8971d02922');
INSERT INTO "audit" VALUES(3,'2026-11-21T18:38:19.727Z',1,'ee557b8971d02922','model create','shapes:1');
INSERT INTO "audit" VALUES(4,'2026-11-21T18:38:19.729Z',1,'ee557b8971d02922','endpoint create','shapes');
INSERT INTO "audit" VALUES(5,'2026-11-21T18:38:19.768Z',1,'ee557b8971d02922','deployment create','shapes/shapes:1');
INSERT INTO "audit" VALUES(6,'2026-11-21T18:38:19.768Z',1,'ee557b8971d02922','endpoint default','shapes/shapes');
INSERT INTO "audit" VALUES(7,'2026-11-21T18:38:19.841Z',1,'ee557b8971d02922','tenant create','other');
INSERT INTO "audit" VALUES(8,'2026-11-21T18:38:19.843Z',1,'ee557b8971d02922','job submit','job-20261121183819843-61db0732');
INSERT INTO "audit" VALUES(9,'2026-11-21T18:38:19.845Z',1,'ee557b8971d02922','job submit','job-20261121183819845-ad1e5876');
INSERT INTO "audit" VALUES(10,'2026-11-21T18:38:21.798Z',1,'ee557b8971d02922','job submit','job-20261121183821798-12e27bec');
INSERT INTO "audit" VALUES(11,'2026-11-21T18:38:21.802Z',1,'ee557b8971d02922','job submit','job-20261121183821801-b85ff11f');
INSERT INTO "audit" VALUES(12,'2026-11-21T18:38:21.815Z',1,'ee557b8971d02922','job submit','job-20261121183821810-f560501b');
INSERT INTO "audit" VALUES(13,'2026-11-21T18:38:21.822Z',1,'ee557b8971d02922','job cancel','job-20261121183821810-f560501b');
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
INSERT INTO "deployments" VALUES(1,1,'shapes',1,'name: shapes
model: azureml:shapes:1
settings:
  device: cpu
  mini_batch_size: 1
','sha256:6a581d93be79487c2935e400f08e48d452c4582f8fc47f0d5fcd699644dc76d3',NULL,'sha256:65a381fbe33ec50c75a72b7bb5d1f68c8ab9c5019012e5fd0b4b01cd79f9378e','2026-11-21T18:38:19.768Z',NULL);
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
INSERT INTO "endpoints" VALUES(1,1,'shapes','Tells shapes apart.','{"team":"a"}','shapes',1,'2026-11-21T18:38:19.729Z','2026-11-21T18:38:19.768Z');
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
INSERT INTO "jobs" VALUES('job-20261121183819843-61db0732',1,'shapes','shapes',1,'sha256:6a581d93be79487c2935e400f08e48d452c4582f8fc47f0d5fcd699644dc76d3','sha256:65a381fbe33ec50c75a72b7bb5d1f68c8ab9c5019012e5fd0b4b01cd79f9378e','{"upload":"upload-20261121183819773-fdce63f8"}','{}','Completed',0,1,0,'{"name":"job-20261121183819843-61db0732","state":"Completed","started":"2026-11-21T18:38:19.861Z","ended":"2026-11-21T18:38:19.925Z","seconds":0.063,"resumed":false,"counts":{"files":40,"succeeded":40,"failed":0,"mini_batches":40,"mini_batches_done":40,"rows":40,"retries":0},"files_per_second":632.195,"device_seconds":0.056,"peak_memory_bytes":22188032,"device":{"name":"cpu","description":"rten on 2 CPU threads","reason":"`cpu` was asked for"},"confinement":{"landlock":"on","seccomp":"on"},"deployment":"shapes","script":{"name":"built-in","digest":"built-in 2"},"model":{"name":"65a381fbe33ec50c75a72b7bb5d1f68c8ab9c5019012e5fd0b4b01cd79f9378e","digest":"sha256:65a381fbe33ec50c75a72b7bb5d1f68c8ab9c5019012e5fd0b4b01cd79f9378e"},"predictions":"predictions.csv","settings":{"mini_batch_size":1,"max_concurrency_per_instance":1,"error_threshold":null,"max_retries":3,"timeout_seconds":30,"output_action":"append_row","output_file_name":"predictions.csv","output_format":"azure","logging_level":"info","environment_variables":[],"device":"cpu","deterministic":false,"limits":{"memory":1073741824,"table_elements":100000,"log_bytes":1048576,"output_rows":1000000,"output_bytes":268435456,"file_bytes":1073741824,"job_file_bytes":68719476736,"tensors":2147483648,"pixels":89478485,"init":120}}}',NULL,NULL,'06d6fd2ab3f44f492f17632bc7cd1f9b0846f270b17aa214fe0e50f770269602','2026-11-21T18:38:19.843Z','2026-11-21T18:38:19.844Z','2026-11-21T18:38:19.950Z');
INSERT INTO "jobs" VALUES('job-20261121183819845-ad1e5876',1,'shapes','shapes',1,'sha256:6a581d93be79487c2935e400f08e48d452c4582f8fc47f0d5fcd699644dc76d3','sha256:65a381fbe33ec50c75a72b7bb5d1f68c8ab9c5019012e5fd0b4b01cd79f9378e','{"upload":"upload-20261121183819837-3767175f"}','{}','Failed',0,1,0,NULL,'the deployment cannot be scored without a script: 1 file of the input cannot be scored without a script, `a.txt` only; what can ends with .png, .jpg, .jpeg, .tif, .tiff, .bmp, .gif
hint: move them out of the input folder, or write a script that scores them',NULL,'cb437f6d55d8f1d6e474bb7ba09ede2c25010ff322ae729301be1f3aa07aa780','2026-11-21T18:38:19.845Z','2026-11-21T18:38:19.952Z','2026-11-21T18:38:19.974Z');
INSERT INTO "jobs" VALUES('job-20261121183821798-12e27bec',1,'shapes','shapes',1,'sha256:6a581d93be79487c2935e400f08e48d452c4582f8fc47f0d5fcd699644dc76d3','sha256:65a381fbe33ec50c75a72b7bb5d1f68c8ab9c5019012e5fd0b4b01cd79f9378e','{"upload":"upload-20261121183820010-0dde0d75"}','{}','Running',0,1,0,NULL,NULL,NULL,'6754b26da64b41a61b59869b7b91618b1c104cdecce649ab7d1ded453dfab7db','2026-11-21T18:38:21.798Z','2026-11-21T18:38:21.799Z',NULL);
INSERT INTO "jobs" VALUES('job-20261121183821801-b85ff11f',1,'shapes','shapes',1,'sha256:6a581d93be79487c2935e400f08e48d452c4582f8fc47f0d5fcd699644dc76d3','sha256:65a381fbe33ec50c75a72b7bb5d1f68c8ab9c5019012e5fd0b4b01cd79f9378e','{"upload":"upload-20261121183819773-fdce63f8"}','{"settings.mini_batch_size":"2"}','Queued',0,0,0,NULL,NULL,NULL,'1dd53231de8221c936417ad89fc9fb6b4c44da9d02991a57f7a39145e68db291','2026-11-21T18:38:21.802Z',NULL,NULL);
INSERT INTO "jobs" VALUES('job-20261121183821810-f560501b',1,'shapes','shapes',1,'sha256:6a581d93be79487c2935e400f08e48d452c4582f8fc47f0d5fcd699644dc76d3','sha256:65a381fbe33ec50c75a72b7bb5d1f68c8ab9c5019012e5fd0b4b01cd79f9378e','{"upload":"upload-20261121183819773-fdce63f8"}','{}','Canceled',1,0,0,NULL,NULL,NULL,'06d6fd2ab3f44f492f17632bc7cd1f9b0846f270b17aa214fe0e50f770269602','2026-11-21T18:38:21.815Z',NULL,'2026-11-21T18:38:21.822Z');
CREATE TABLE models (
  tenant INTEGER NOT NULL REFERENCES tenants (id),
  name TEXT NOT NULL,
  version INTEGER NOT NULL,
  digest TEXT NOT NULL,
  created TEXT NOT NULL,
  PRIMARY KEY (tenant, name, version)
) STRICT;
INSERT INTO "models" VALUES(1,'shapes',1,'sha256:65a381fbe33ec50c75a72b7bb5d1f68c8ab9c5019012e5fd0b4b01cd79f9378e','2026-11-21T18:38:19.727Z');
CREATE TABLE tenants (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  weight INTEGER NOT NULL DEFAULT 1 CHECK (weight > 0),
  running INTEGER NOT NULL,             -- most jobs at once
  queued INTEGER NOT NULL,              -- most jobs that wait
  storage INTEGER NOT NULL,             -- most bytes of uploads, models, scripts and outputs
  created TEXT NOT NULL
) STRICT;
INSERT INTO "tenants" VALUES(1,'default',1,4,1000,107374182400,'2026-11-21T18:38:19.202Z');
INSERT INTO "tenants" VALUES(2,'other',3,1,5,1048576,'2026-11-21T18:38:19.841Z');
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
INSERT INTO "tokens" VALUES('ee557b8971d02922',1,'first',X'216EE5022A34AAAFE0B5D18976412476481CE3C989C4F258317FFE04078F0A7F','read invoke write admin','2026-11-21T18:38:19.203Z',NULL,NULL);
CREATE INDEX jobs_of_tenant ON jobs (tenant, id);
CREATE INDEX jobs_by_status ON jobs (status, id) WHERE status IN ('Queued', 'Running');
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_is_not_cut BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('audit',13);
COMMIT;
PRAGMA user_version = 1;
