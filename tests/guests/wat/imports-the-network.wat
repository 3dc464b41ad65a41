;; Imports HTTP.
(component
  (import "wasi:http/outgoing-handler@0.2.0" (instance))
  (instance $script)
  (export "scorehost:script/script@0.2.0" (instance $script)))
