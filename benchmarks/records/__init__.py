"""What each benchmark writes, with the table that shows it."""
