"""What the errors of each form of an engine come to in what users see, on clips with known answers."""
