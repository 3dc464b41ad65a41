;; A column of thirty million empty texts: eight bytes each for the script, and three times that for the host.
(core module $guest
  (memory (export "memory") 4096)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536)
  (func (export "init") (result i32) i32.const 8)
  (func (export "run") (param i32 i32) (result i32) i32.const 1024)
  (func (export "after") (param i32))
  (data (i32.const 1024) "\00\00\00\00\00\08\00\00\01\00\00\00\00\00\00\00\00\00\00\00")
  (data (i32.const 2048) "\00\00\00\00\00\00\00\00\03\00\00\00\00\10\00\00\80\c3\c9\01\00\00\00\00\00\00\00\00"))
