;; Imports what no interface of the host is called.
(component
  (import "wasi:process/spawn@0.1.0" (instance (export "spawn" (func (param "command" string)))))
  (instance $script)
  (export "scorehost:script/script@0.2.0" (instance $script)))
