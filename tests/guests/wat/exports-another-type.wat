;; Exports `run` as a function of nothing.
(component
  (core module $guest (func (export "run")))
  (core instance $guest (instantiate $guest))
  (func $run (canon lift (core func $guest "run")))
  (instance $script (export "init" (func $run)) (export "run" (func $run)))
  (export "scorehost:script/script@0.2.0" (instance $script)))
