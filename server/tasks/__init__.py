"""What can be asked of an engine. A task names the outputs that it needs and makes its result from each clip's row."""
