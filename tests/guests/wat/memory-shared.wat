;; A memory that threads could share.
(core module $guest
  (memory (export "memory") 2 2 shared)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536)
  (func (export "init") (result i32) i32.const 8)
  (func (export "run") (param i32 i32) (result i32) i32.const 8)
  (func (export "after") (param i32)))
