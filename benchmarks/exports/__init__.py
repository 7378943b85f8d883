"""What an export costs, and whether what comes out is served as it should be."""
