module score-by-file

go 1.25

require scorehost v0.0.0

replace scorehost => ./.scorehost/go
