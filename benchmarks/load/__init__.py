"""Load against a real server process: throughput, overhead, overload and soak. `sonant bench load --help`."""
