"""Rankings without repetition."""
