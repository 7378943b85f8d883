"""Proves on this host what deploy/README.md says of the containers: `make containers`."""
