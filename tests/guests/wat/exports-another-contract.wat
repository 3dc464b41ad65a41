;; Was built for a contract that is not there yet.
(component
  (instance $script)
  (export "scorehost:script/script@0.9.0" (instance $script)))
