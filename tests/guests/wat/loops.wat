;; Loops without calling anything.
(core module $guest
  (memory (export "memory") 2)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536)
  (func (export "init") (result i32) i32.const 8)
  (func (export "run") (param i32 i32) (result i32) (loop (br 0)) unreachable)
  (func (export "after") (param i32)))
