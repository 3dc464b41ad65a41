;; Offers room for the arguments that lies past the end of its memory.
(core module $guest
  (memory (export "memory") 2)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 0xfffffff0)
  (func (export "init") (result i32) i32.const 8)
  (func (export "run") (param i32 i32) (result i32) i32.const 8)
  (func (export "after") (param i32)))
