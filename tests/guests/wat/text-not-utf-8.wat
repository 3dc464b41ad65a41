;; A reason that is not UTF-8.
(core module $guest
  (memory (export "memory") 2)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536)
  (func (export "init") (result i32) i32.const 8)
  (func (export "run") (param i32 i32) (result i32) i32.const 1024)
  (func (export "after") (param i32))
  (data (i32.const 1024) "\01\00\00\00\01\00\00\00\00\08\00\00\04\00\00\00")
  (data (i32.const 2048) "\ff\fe\c0\80"))
