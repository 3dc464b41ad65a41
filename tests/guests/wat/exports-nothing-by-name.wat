;; Exports the contract's interface without its functions.
(component
  (instance $script)
  (export "scorehost:script/script@0.2.0" (instance $script)))
