"""What comes in and what goes out, as OpenAPI documents it."""
