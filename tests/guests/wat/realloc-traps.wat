;; Traps when the host asks for room for the arguments.
(core module $guest
  (memory (export "memory") 2)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
  (func (export "init") (result i32) i32.const 8)
  (func (export "run") (param i32 i32) (result i32) i32.const 8)
  (func (export "after") (param i32)))
