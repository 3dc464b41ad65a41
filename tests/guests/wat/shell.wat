;; What every guest of this folder is put into: the contract's types, a few of the host's functions for it to call,
;; and its own two functions as the contract's export. A guest is the text of a core module named `$guest`, which imports
;; from "host" what it needs and exports `memory`, `realloc`, `init`, `run` and `after` (the post-return function of `run`).
;;
;; How `run` answers, in memory at the address that it returns:
;;   success:  +0 byte 0   +4 columns: address, count   +12 failed files: address, count
;;   failure:  +0 byte 1   +4 byte 0 transient, 1 permanent   +8 its text: address, bytes
;; A column, 28 bytes:  +0 name: address, bytes   +8 byte of its type   +12 cells: address, count   +20 nulls: address, count
(component
  (import "scorehost:script/types@0.2.0" (instance $types
    (type $cells- (variant (case "booleans" (list bool)) (case "integers" (list s64)) (case "numbers" (list f64)) (case "texts" (list string))))
    (export "cells" (type $cells (eq $cells-)))
    (type $column- (record (field "name" string) (field "cells" $cells) (field "nulls" (list u32))))
    (export "column" (type $column (eq $column-)))
    (type $failed-file- (record (field "index" u32) (field "reason" string)))
    (export "failed-file" (type $failed-file (eq $failed-file-)))
    (type $output- (record (field "columns" (list $column)) (field "failed" (list $failed-file))))
    (export "output" (type $output (eq $output-)))
    (type $failure- (variant (case "transient" string) (case "permanent" string)))
    (export "failure" (type $failure (eq $failure-)))))
  (alias export $types "output" (type $output))
  (alias export $types "failure" (type $failure))
  (import "scorehost:script/log@0.2.0" (instance $log
    (type $level- (enum "debug" "info" "warning" "error"))
    (export "level" (type $level (eq $level-)))
    (export "write" (func (param "level" $level) (param "message" string)))))
  (import "scorehost:script/images@0.2.0" (instance $images
    (export "recipe" (type $recipe (sub resource)))
    (export "[constructor]recipe" (func (param "width" u32) (param "height" u32) (result (own $recipe))))
    (export "[method]recipe.upright" (func (param "self" (borrow $recipe))))))
  (alias export $images "recipe" (type $recipe))
  (import "scorehost:script/tensors@0.2.0" (instance $tensors
    (export "tensor" (type $tensor (sub resource)))
    (export "[method]tensor.softmax" (func (param "self" (borrow $tensor)) (result (own $tensor))))))
  (import "wasi:random/random@0.2.0" (instance $random
    (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))

  ;; The memory that host functions read from; a guest may take it as its own.
  (core module $shared
    (memory (export "memory") 2)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536))
  (core instance $shared (instantiate $shared))
  (core func $write (canon lower (func $log "write") (memory (core memory $shared "memory"))))
  (core func $recipe (canon lower (func $images "[constructor]recipe")))
  (core func $upright (canon lower (func $images "[method]recipe.upright")))
  (core func $drop (canon resource.drop $recipe))
  (core func $softmax (canon lower (func $tensors "[method]tensor.softmax")))
  (core func $random (canon lower (func $random "get-random-bytes") (memory (core memory $shared "memory")) (realloc (core func $shared "realloc"))))
  (core instance $host
    (export "memory" (memory $shared "memory"))
    (export "write" (func $write))
    (export "recipe" (func $recipe))
    (export "upright" (func $upright))
    (export "drop" (func $drop))
    (export "softmax" (func $softmax))
    (export "random" (func $random)))

  {guest}

  (core instance $guest (instantiate $guest (with "host" (instance $host))))
  (func $init (result (result (error $failure)))
    (canon lift (core func $guest "init") (memory (core memory $guest "memory"))))
  (func $run (param "mini-batch" (list string)) (result (result $output (error $failure)))
    (canon lift (core func $guest "run") (memory (core memory $guest "memory")) (realloc (core func $guest "realloc")) (post-return (core func $guest "after"))))
  (instance $script (export "init" (func $init)) (export "run" (func $run)))
  (export "scorehost:script/script@0.2.0" (instance $script)))
