module kubenetprobe/test/peers/http

go 1.21
