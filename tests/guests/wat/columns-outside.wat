;; Columns that lie past the end of its memory.
(core module $guest
  (memory (export "memory") 2)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536)
  (func (export "init") (result i32) i32.const 8)
  (func (export "run") (param i32 i32) (result i32) i32.const 1024)
  (func (export "after") (param i32))
  (data (i32.const 1024) "\00\00\00\00\00\00\00\7f\01\00\00\00\00\00\00\00\00\00\00\00"))
