;; Imports `context.retire` as if it gave a number.
(component
  (import "scorehost:script/context@0.2.0" (instance (export "retire" (func (result u64)))))
  (instance $script)
  (export "scorehost:script/script@0.2.0" (instance $script)))
