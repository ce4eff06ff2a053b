"""What goes into a function, and whether a platform takes it."""
