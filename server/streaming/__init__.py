"""Audio that arrives while it is spoken -> partial and final texts. No sockets in here: see server.routes.stream."""
