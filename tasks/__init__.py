"""What: one stage a file, and the store that seals its output."""
