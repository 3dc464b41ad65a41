;; Two columns, of one and of two cells.
(core module $guest
  (memory (export "memory") 2)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536)
  (func (export "init") (result i32) i32.const 8)
  (func (export "run") (param i32 i32) (result i32) i32.const 1024)
  (func (export "after") (param i32))
  (data (i32.const 1024) "\00\00\00\00\00\08\00\00\02\00\00\00\00\00\00\00\00\00\00\00")
  (data (i32.const 2048) "\00\00\00\00\00\00\00\00\01\00\00\00\00\10\00\00\01\00\00\00\00\00\00\00\00\00\00\00")
  (data (i32.const 2076) "\00\10\00\00\01\00\00\00\01\00\00\00\00\10\00\00\02\00\00\00\00\00\00\00\00\00\00\00"))
