;; Calls itself until WebAssembly's own stack ends; the memory, with any stack of the language's, is not touched.
(core module $guest
  (memory (export "memory") 2)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536)
  (func (export "init") (result i32) i32.const 8)
  (func $run (export "run") (param i32 i32) (result i32) (i32.add (call $run (local.get 0) (local.get 1)) (i32.const 1)))
  (func (export "after") (param i32)))
