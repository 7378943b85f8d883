"""HTTP -> task -> HTTP: one thin module for each task, models and health."""
