module reader

go 1.24
