-- Version 3. What a line of the audit log changed.

ALTER TABLE audit ADD COLUMN detail TEXT NOT NULL DEFAULT '';  -- in words, of bounded length
