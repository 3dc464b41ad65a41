;; Imports a function that the host's `log` does not have.
(component
  (import "scorehost:script/log@0.2.0" (instance (export "shout" (func))))
  (instance $script)
  (export "scorehost:script/script@0.2.0" (instance $script)))
