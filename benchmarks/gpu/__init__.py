"""What engines do on a GPU: parity with torch, speed beside it, first costs, and a server under load."""
