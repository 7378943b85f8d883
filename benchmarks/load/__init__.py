"""A server under load: closed and open loop, throughput, overhead, overload, soak. `sonant bench load --help`."""
