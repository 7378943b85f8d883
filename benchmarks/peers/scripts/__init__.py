"""What runs in the environments of the peers: these modules import what is installed there, and each other."""
