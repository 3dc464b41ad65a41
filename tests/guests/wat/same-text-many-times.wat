;; A column of a thousand texts that are one megabyte of its memory, named a thousand times.
(core module $guest
  (memory (export "memory") 32)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536)
  (func (export "init") (result i32) i32.const 8)
  (func (export "run") (param i32 i32) (result i32) (local $i i32)
    (loop
      (i32.store (i32.add (i32.const 4096) (i32.mul (local.get $i) (i32.const 8))) (i32.const 65536))
      (i32.store (i32.add (i32.const 4100) (i32.mul (local.get $i) (i32.const 8))) (i32.const 1048576))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if 0 (i32.lt_u (local.get $i) (i32.const 1000))))
    i32.const 1024)
  (func (export "after") (param i32))
  (data (i32.const 1024) "\00\00\00\00\00\08\00\00\01\00\00\00\00\00\00\00\00\00\00\00")
  (data (i32.const 2048) "\00\00\00\00\00\00\00\00\03\00\00\00\00\10\00\00\e8\03\00\00\00\00\00\00\00\00\00\00"))
