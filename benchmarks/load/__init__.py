"""Load against a real server process: throughput, overhead, overload and soak. `python -m benchmarks.load --help`."""
