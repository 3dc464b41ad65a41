;; Calls the host from the function that is called after its result was read.
(core module $guest
  (import "host" "memory" (memory 2))
  (import "host" "write" (func $write (param i32 i32 i32)))
  (export "memory" (memory 0))
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536)
  (func (export "init") (result i32) i32.const 8)
  (func (export "run") (param i32 i32) (result i32) i32.const 8)
  (func (export "after") (param i32) (call $write (i32.const 3) (i32.const 64) (i32.const 4))))
