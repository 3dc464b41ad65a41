;; Calls a function through a table that has none.
(core module $guest
  (memory (export "memory") 2)
  (table 1 funcref)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536)
  (func (export "init") (result i32) i32.const 8)
  (func (export "run") (param i32 i32) (result i32) (call_indirect (result i32) (i32.const 0)))
  (func (export "after") (param i32)))
