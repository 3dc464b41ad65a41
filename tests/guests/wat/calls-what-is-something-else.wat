;; Calls a function through a table as if it had another type.
(core module $guest
  (memory (export "memory") 2)
  (table funcref (elem $other))
  (func $other (param i64 i64 i64))
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536)
  (func (export "init") (result i32) i32.const 8)
  (func (export "run") (param i32 i32) (result i32) (call_indirect (result i32) (i32.const 0)))
  (func (export "after") (param i32)))
