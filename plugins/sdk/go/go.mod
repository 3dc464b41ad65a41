module scorehost

go 1.25
