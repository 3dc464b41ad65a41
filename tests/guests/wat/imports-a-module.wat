;; Imports a core module, to have the host's code in its own instance.
(component
  (import "scorehost:script/log@0.2.0" (core module (export "write" (func))))
  (instance $script)
  (export "scorehost:script/script@0.2.0" (instance $script)))
