"""What a release says of itself: facts computed from sealed directories, and the pages that show them."""
